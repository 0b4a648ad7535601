package cluster_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"coffer/cluster"
	"coffer/cluster/pki"
	"coffer/fsm"
)

// TestAJoiningNodeIsNotRemoved has a node that was taken in ask members that have not heard of that yet, before it has
// heard of a leader: that they do not count it as a member is no word of a removal.
func TestAJoiningNodeIsNotRemoved(t *testing.T) {
	g := newGroup(t)
	nodes := g.three()
	leader := leaderOf(nodes...)
	// It can't join by itself.
	g.with = func(c *cluster.Config) { c.RootKeyID = func() string { return "of nobody else" } }
	joiner := g.add("n4", 0, nodes...)
	joiner.await("to know the members", func() error {
		if err := joiner.Ready(); err == nil || !strings.Contains(err.Error(), "another root key") {
			return err
		}
		return nil
	})
	noError(t, joiner.Enter(leader.ID(), leader.Status().Term, "n1", "n2", "n3"))
	for range 3 {
		joiner.FindRemoved(t.Context())
	}
	if len(joiner.left) > 0 {
		t.Errorf("it takes itself for removed: %v", <-joiner.left)
	}
}

// TestACloneOfAMemberIsRefused has a node without data join with the certificate of a member: not while that one runs
// with its data, and the region goes on as it was; once it does not answer, the new one takes its place.
func TestACloneOfAMemberIsRefused(t *testing.T) {
	g := newGroup(t)
	nodes := g.three()
	leader := leaderOf(nodes...)
	original := others(nodes, leader)[0]
	body, err := cbor.Marshal(map[int]any{1: "root", 2: fsm.Formats()})
	noError(t, err)
	join := func() (int, string) {
		status, text, err := leader.call(g.credentials(pki.Node, original.id()), http.MethodPost, "/join", body)
		noError(t, err)
		return status, text
	}
	undisturbed(t, func() {
		if status, text := join(); status != http.StatusForbidden || !strings.Contains(text, "certificate of its own") {
			t.Errorf("the clone of a member that runs: %d %s", status, text)
		}
	}, nodes...)
	if !strings.Contains(leader.log.String(), "the certificate is in use twice") {
		t.Error("the leader's log does not tell of it")
	}
	leader.awaitVoters("n1", "n2", "n3")
	original.stop()
	if status, text := join(); status != http.StatusOK {
		t.Errorf("in the place of a member that is gone: %d %s", status, text)
	}
}
