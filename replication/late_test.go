package replication_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"coffer/internal/testregion"
	"coffer/replication"
	"coffer/secret"
	sm "coffer/secretsmanager"
)

// The regions of these tests: secrets are created in the first and replicated to the second.
const (
	us = "us-east-1"
	eu = "eu-west-1"
	ap = "ap-south-1"
)

// inWorld runs a test over three regions whose network does what the test says.
func inWorld(t *testing.T, test func(*world)) {
	synctest.Test(t, func(t *testing.T) { test(newWorld(t, 1)) })
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) create(region, name, value string, replicas ...string) {
	w.t.Helper()
	in := &sm.CreateSecretInput{Name: &name}
	in.SecretString, in.ClientRequestToken = &value, w.token()
	for _, r := range replicas {
		in.AddReplicaRegions = append(in.AddReplicaRegions, sm.ReplicaRegion{Region: &r})
	}
	_, err := w.regions[region].secrets.CreateSecret(w.regions[region].Ctx(), in)
	w.must(err)
}

func (w *world) put(region, name, value string) error {
	w.mine(w.regions[region], name)
	in := &sm.PutSecretValueInput{SecretID: &name}
	in.SecretString, in.ClientRequestToken = &value, w.token()
	_, err := w.regions[region].secrets.PutSecretValue(w.regions[region].Ctx(), in)
	return err
}

func (w *world) promote(region, name string) {
	w.t.Helper()
	s, _ := w.regions[region].find(name)
	w.promoted[w.regions[region].key(s)] = true
	_, err := w.regions[region].secrets.StopReplicationToReplica(w.regions[region].Ctx(), &sm.SecretIDInput{
		SecretID: &name,
	})
	w.must(err)
}

// value is the current value of a secret, or why there is none.
func (w *world) current(region, name string) string {
	got, err := w.regions[region].secrets.GetSecretValue(w.regions[region].Ctx(), &sm.GetSecretValueInput{SecretID: &name})
	if err != nil {
		return err.Error()
	}
	return got.SecretString
}

func (w *world) want(region, name, value string) {
	w.t.Helper()
	if got := w.current(region, name); got != value {
		w.t.Fatalf("%s in %s has %q, wanted %q", name, region, got, value)
	}
}

// send delivers what waits from one region to another.
func (w *world) send(from, to string) {
	w.t.Helper()
	time.Sleep(20 * time.Second) // refused links are tried again
	for range 3 {
		w.regions[from].to[to].Step(w.ctx)
	}
}

// hold keeps what is sent meanwhile from arriving, and answers it.
func (w *world) hold(do func()) []envelope {
	w.holding, w.held = true, nil
	do()
	w.holding = false
	return w.held
}

// deliver has held messages arrive, and answers what they are answered with.
func (w *world) deliver(held []envelope) (answers []string) {
	for _, e := range held {
		got, err := w.regions[e.to].agent.Answer(w.ctx, e.from, e.path, e.question)
		answers = append(answers, fmt.Sprintf("%s %v", got, err))
	}
	return answers
}

// TestLateMessageFromDeposedLeaderIsRefused lets a leader's message arrive after the next leader's first: of the same
// secret, and of one that the new leader has not sent yet.
func TestLateMessageFromDeposedLeaderIsRefused(t *testing.T) {
	inWorld(t, func(w *world) {
		w.create(us, "a", "1", eu)
		w.create(us, "b", "1", eu)
		w.send(us, eu)
		w.must(w.put(us, "a", "2"))
		w.must(w.put(us, "b", "2"))
		late := w.hold(func() { w.send(us, eu) })
		w.regions[us].lead()
		w.must(w.put(us, "a", "3"))
		w.create(us, "c", "1", eu)
		// The new leader sends c first.
		w.regions[us].to[eu].Only(w.ctx, "c")
		answers := w.deliver(late)
		if len(answers) == 0 || !strings.Contains(answers[0], string(secret.KindStale)) {
			t.Fatalf("the late messages were answered with %q", answers)
		}
		w.want(eu, "a", "1")
		w.want(eu, "b", "1")
		w.send(us, eu)
		w.want(eu, "a", "3")
		w.want(eu, "b", "2")
		w.deliver(late)
		w.want(eu, "a", "3")
	})
}

// TestPromotedReplicaIgnoresItsOldPrimary promotes a replica while changes of its primary are on their way, which
// arrive late, twice, and under another leader.
func TestPromotedReplicaIgnoresItsOldPrimary(t *testing.T) {
	inWorld(t, func(w *world) {
		w.create(us, "a", "1", eu)
		w.send(us, eu)
		w.must(w.put(us, "a", "theirs"))
		late := w.hold(func() { w.send(us, eu) })
		w.promote(eu, "a")
		w.must(w.put(eu, "a", "ours"))
		w.deliver(late)
		w.deliver(late)
		w.want(eu, "a", "ours")
		w.regions[us].lead()
		w.send(us, eu)
		w.want(eu, "a", "ours")
		w.want(us, "a", "theirs")
		if s, _ := w.regions[us].find("a"); len(s.Replicas) != 0 {
			t.Error("the old primary keeps the link")
		}
		w.send(eu, us) // the notice, which comes too late to matter
		w.settle()
	})
}

// TestRemovedReplicaDoesNotComeBack delivers a state after the notice that removed its link.
func TestRemovedReplicaDoesNotComeBack(t *testing.T) {
	inWorld(t, func(w *world) {
		w.create(us, "a", "1", eu)
		first := w.hold(func() { w.send(us, eu) })
		remove := func() {
			_, err := w.regions[us].secrets.RemoveRegionsFromReplication(w.regions[us].Ctx(),
				&sm.RemoveRegionsFromReplicationInput{SecretID: new("a"), RemoveReplicaRegions: []string{eu}})
			w.must(err)
		}
		remove()
		w.send(us, eu) // the notice, before any state
		w.deliver(first)
		w.want(eu, "a", secret.ErrNotFound.Message)
	})
}

// TestHandOverWhileAStateIsOnItsWay hands a secret over between a state and its acknowledgement.
func TestHandOverWhileAStateIsOnItsWay(t *testing.T) {
	inWorld(t, func(w *world) {
		w.create(us, "a", "1", eu, ap)
		w.send(us, eu)
		w.send(us, ap)
		w.must(w.put(us, "a", "2"))
		w.meanwhile = func() { w.handOver(us, eu, "a") }
		w.send(us, eu)
		if err := w.put(us, "a", "3"); err == nil {
			t.Error("a secret that is handed over takes a write")
		}
		w.settle()
		w.must(w.put(eu, "a", "4"))
		w.settle()
		for _, region := range []string{us, ap} {
			w.want(region, "a", "4")
		}
		w.orphans()
	})
}

func (w *world) handOver(from, to, name string) {
	w.t.Helper()
	s, _ := w.regions[from].find(name)
	done, err := w.regions[from].agent.Carry(w.regions[from].Ctx(), &replication.Work{
		Do: replication.DoHandOver, Region: to,
		Tasks: []replication.Task{{Account: s.Account, Name: s.Name, Suffix: s.Suffix}},
	})
	w.must(err)
	if done.Refused[0] != "" {
		w.t.Fatal(done.Refused[0])
	}
}

func (w *world) snapshot(region string) []byte {
	w.t.Helper()
	var b bytes.Buffer
	w.must(w.regions[region].Store.Save(&b))
	return b.Bytes()
}

// TestReplicaRegionIsRestored restores a replica region from an old snapshot: its primary's region notices by the
// epoch, and sends everything again.
func TestReplicaRegionIsRestored(t *testing.T) {
	inWorld(t, func(w *world) {
		w.create(us, "a", "1", eu)
		w.send(us, eu)
		old := w.snapshot(eu)
		w.must(w.put(us, "a", "2"))
		w.create(us, "b", "1", eu)
		w.send(us, eu)
		w.want(eu, "a", "2")
		time.Sleep(time.Hour)
		w.must(w.regions[eu].Restore(old))
		w.want(eu, "a", "1")
		w.must(w.regions[us].to[eu].Greet(w.ctx))
		w.send(us, eu)
		w.want(eu, "a", "2")
		w.want(eu, "b", "1")
		w.converged()
	})
}

// TestPrimaryRegionIsRestored restores a primary's region from an old snapshot: its replicas follow it back, what only
// they had is set aside, and what it sent before arrives no more.
func TestPrimaryRegionIsRestored(t *testing.T) {
	inWorld(t, func(w *world) {
		w.create(us, "a", "1", eu)
		w.create(us, "same", "1", eu)
		w.send(us, eu)
		old := w.snapshot(us)
		w.must(w.put(us, "a", "2"))
		w.send(us, eu)
		w.must(w.put(us, "a", "3"))
		late := w.hold(func() { w.send(us, eu) })
		w.want(eu, "a", "2")
		time.Sleep(time.Hour)
		w.must(w.regions[us].Restore(old))
		w.regions[us].lead()
		w.send(us, eu)
		w.want(us, "a", "1")
		w.want(eu, "a", "1")
		if answers := w.deliver(late); len(answers) == 0 || !strings.Contains(answers[0], string(secret.KindStale)) {
			t.Fatalf("what was sent before the restore was answered with %q", answers)
		}
		w.want(eu, "a", "1")
		w.must(w.put(us, "a", "other"))
		w.settle()
		w.converged()
		aside, err := w.regions[eu].secrets.Displaced(w.ctx, testregion.Account)
		w.must(err)
		if len(aside) != 1 || aside[0].Name != "a" {
			t.Fatalf("set aside: %v", aside)
		}
		_, err = w.regions[eu].secrets.RestoreDisplaced(w.ctx, testregion.Account, aside[0].ID, "a/before")
		w.must(err)
		w.want(eu, "a/before", "2")
	})
}

// TestNobodySendsForAnother has a region send what is not its own: a secret of a third region's name, and one whose
// primary is elsewhere.
func TestNobodySendsForAnother(t *testing.T) {
	inWorld(t, func(w *world) {
		w.create(us, "a", "1", eu)
		w.send(us, eu)
		w.create(ap, "a", "theirs", eu)
		w.create(eu, "own", "mine")
		w.create(ap, "own", "theirs", eu)
		w.send(ap, eu)
		w.want(eu, "a", "1")
		w.want(eu, "own", "mine")
		// What us sent to eu, as if ap had: it is sealed for another sender.
		w.must(w.put(us, "a", "2"))
		for _, e := range w.hold(func() { w.send(us, eu) }) {
			if _, err := w.regions[eu].agent.Answer(w.ctx, ap, e.path, e.question); err == nil {
				t.Error("a message is taken from a region that did not seal it")
			}
			if _, err := w.regions[ap].agent.Answer(w.ctx, us, e.path, e.question); err == nil {
				got, _ := w.regions[ap].agent.Answer(w.ctx, us, e.path, e.question)
				if !bytes.Contains(got, []byte{0xf5}) { // an unknown key: it could not be opened
					t.Errorf("a third region opens a message: %x", got)
				}
			}
		}
		w.want(eu, "a", "1")
	})
}

// TestComparisonRepairs has a replica region silently lose changes, and sees the comparison find and mend them.
func TestComparisonRepairs(t *testing.T) {
	inWorld(t, func(w *world) {
		for i := range 20 {
			w.create(us, fmt.Sprint("s", i), "1", eu)
		}
		w.send(us, eu)
		old := w.regions[eu].Snapshot(w.t)
		w.must(w.put(us, "s7", "2"))
		w.create(us, "new", "1", eu)
		w.send(us, eu)
		w.must(w.regions[eu].Install(old))
		w.want(eu, "s7", "1")
		c := w.regions[us].to[eu]
		c.Compare(w.ctx)
		if c.Suspects() != 2 {
			t.Fatalf("%d links are suspected", c.Suspects())
		}
		c.Compare(w.ctx)
		w.send(us, eu)
		w.want(eu, "s7", "2")
		w.want(eu, "new", "1")
		c.Compare(w.ctx)
		if c.Suspects() != 0 {
			t.Error("the regions still differ")
		}
		w.converged()
	})
}

// TestValuesAreSealedInsideTLS looks at what regions say to each other as one does who has the keys of their TLS
// connections: no value is in it.
func TestValuesAreSealedInsideTLS(t *testing.T) {
	inWorld(t, func(w *world) {
		const canary = "Canary-in-the-clear"
		w.watch = func(b []byte) {
			for _, needle := range []string{
				canary, base64.StdEncoding.EncodeToString([]byte(canary))[:16], hex.EncodeToString([]byte(canary)),
			} {
				if bytes.Contains(b, []byte(needle)) {
					t.Errorf("a value is told as %s", needle)
				}
			}
			w.watched++
		}
		w.create(us, "a", canary, eu, ap)
		for i := range 40 { // a part of the versions has no labels
			w.must(w.put(us, "a", fmt.Sprint(canary, i, strings.Repeat("x", 30_000))))
		}
		w.settle()
		w.handOver(us, eu, "a")
		w.settle()
		w.must(w.put(eu, "a", canary))
		w.settle()
		w.want(us, "a", canary)
		if w.watched < 20 {
			t.Errorf("only %d messages were seen", w.watched)
		}
	})
}
