package cluster_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"coffer/cluster"
	"coffer/cluster/pki"
)

// nowhere is a node that does not run.
func nowhere(t *testing.T) *member { return &member{config: cluster.Config{GossipAddr: freeAddr(t)}} }

// TestTwoClustersOfOneRegion forms two groups that do not know of each other, and lets them meet: each goes on, says
// that there is the other one, and takes neither its nodes' messages nor its calls. A fresh node joins neither.
func TestTwoClustersOfOneRegion(t *testing.T) {
	g := newGroup(t)
	a := g.add("n1", 1)
	b := g.add("n2", 1)
	a.awaitReady()
	b.awaitReady()
	if a.ID() == "" || a.ID() == b.ID() {
		t.Fatalf("cluster ids %q and %q", a.ID(), b.ID())
	}
	id := a.ID()
	noError(t, a.write("in the first"))
	a.stop()
	a.config.Join = []string{b.config.GossipAddr}
	a.start()
	for m, other := range map[*member]*member{a: b, b: a} {
		m.await("the other cluster", func() error {
			if nodes := m.OtherClusters()[other.ID()]; len(nodes) != 1 {
				return errors.New("not noticed")
			}
			return m.Ready()
		})
		if !strings.Contains(m.log.String(), "there is another cluster of this region") {
			t.Error("nothing was logged")
		}
		as := other.config.Credentials
		if answered := (intruder{to: m, as: as}).send(t, as.Identity.ID, m.Status().Term); len(answered) > 0 {
			t.Errorf("a node of another cluster was answered: %v", answered)
		}
		if status, body, err := m.call(as, http.MethodPost, "/propose", nil, "X-Coffer-Cluster",
			other.ID()); status != http.StatusForbidden {
			t.Errorf("a node of another cluster proposed: %d %s %v", status, body, err)
		}
	}
	if a.ID() != id {
		t.Errorf("the id of a cluster was %s, and is %s after a restart", id, a.ID())
	}
	fresh := g.add("n3", 0, a, b)
	fresh.await("the reason", func() error {
		if err := fresh.Ready(); err == nil || !strings.Contains(err.Error(), "2 clusters") {
			return errors.Join(errors.New("it does not say why it is not ready"), err)
		}
		return nil
	})
}

// TestTooFewExpectedFormNothing starts two of four nodes that are to form a cluster of two: the other two could form
// another one.
func TestTooFewExpectedFormNothing(t *testing.T) {
	g := newGroup(t)
	away := []*member{nowhere(t), nowhere(t)}
	a := g.add("n1", 2, away...)
	b := g.add("n2", 2, append(away, a)...)
	b.await("the reason", func() error {
		if err := b.Ready(); err == nil || !strings.Contains(err.Error(), "side by side") {
			return errors.Join(errors.New("it does not say why it is not ready"), err)
		}
		return nil
	})
}

// TestFreshNodeWaitsForOneBeginner asks a fresh node to wait for two beginners: it waits for the first, also after a
// restart, and for no later one, unless that first one waits for it itself.
func TestFreshNodeWaitsForOneBeginner(t *testing.T) {
	g := newGroup(t)
	n := g.add("n5", 2, nowhere(t))
	ask := func(id, clusterID string) (int, string) {
		t.Helper()
		body, err := cbor.Marshal(map[int]any{1: id, 2: clusterID, 3: 2})
		noError(t, err)
		status, text, err := n.call(g.credentials(pki.Node, id), http.MethodPost, "/promise", body)
		noError(t, err)
		return status, text
	}
	const one, two = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
	if status, text := ask("n1", one); status != http.StatusOK {
		t.Fatal(status, text)
	}
	for range 2 {
		if status, text := ask("n1", one); status != http.StatusOK {
			t.Errorf("the same promise again: %d %s", status, text)
		}
		for id, clusterID := range map[string]string{"n0": two, "n1": two, "n2": one} {
			if status, _ := ask(id, clusterID); status != http.StatusConflict {
				t.Errorf("a promise to %s of %s beside the first: %d", id, clusterID, status)
			}
		}
		n.stop()
		n.start()
	}
	if status, text, err := n.call(g.credentials(pki.Node, "n2"), http.MethodPost, "/promise",
		[]byte("garbage")); status != http.StatusBadRequest {
		t.Error(status, text, err)
	}
}
