package cluster_test

import (
	"crypto/rand"
	"errors"
	"net/http"
	"testing"
	"time"

	"coffer/cluster"
	"coffer/cluster/pki"
	"coffer/cluster/quorum"
	"coffer/fsm"
)

// restart stops a node and starts it again.
func (m *member) restart() {
	m.g.t.Helper()
	m.stop()
	m.start()
}

// transfer hands leadership from a node to another one, whose store may have stopped.
func (m *member) transfer(to *member) {
	m.g.t.Helper()
	m.await("to hand leadership over", func() error {
		code, body, err := m.call(m.g.credentials(pki.Operator, "op"), http.MethodPost, "/transfer-leader?to="+to.id(), nil)
		if err == nil && code != http.StatusOK {
			err = errors.New(body)
		}
		return err
	})
}

// goesOn waits until a node's store applies.
func (m *member) goesOn() {
	m.g.t.Helper()
	m.await("to go on", m.config.Store.Halted)
}

// writes waits until a node can write.
func (m *member) writes() {
	m.g.t.Helper()
	m.await("to write", func() error { return m.write(rand.Text()[:16]) }) // one that failed may be carried out yet
}

// waitsBehind waits until a node has skipped an entry, and waits behind it.
func (m *member) waitsBehind(at fsm.Stop) {
	m.g.t.Helper()
	at.Skipped = true
	m.await("to skip the entry", func() error {
		if got, _ := m.config.Store.Stopped(); got != at {
			return errors.New("it has not")
		}
		return nil
	})
}

// haltedAt has three nodes stop at an entry that none can apply. Those that told returns true of are told to skip it
// from their next start on.
func haltedAt(g *group, told map[string]bool) (nodes []*member, at fsm.Stop) {
	g.t.Helper()
	g.skip = func(id string) map[uint64]uint64 {
		if !told[id] {
			return nil
		}
		return map[uint64]uint64{at.Index: at.Sum}
	}
	nodes = g.three()
	leader := leaderOf(nodes...)
	noError(g.t, leader.write("before"))
	noError(g.t, leader.PutIntoLog(unreadable()))
	for _, m := range nodes {
		m.halts()
	}
	at, _ = leader.config.Store.Stopped()
	return nodes, at
}

// TestASkipWaitsForAMajority tells one node of three to skip an entry, and makes it the leader: it takes no writes, as
// the others could apply the entry yet. A second one is told while the third is down for good: both go on, and stay so
// when they are started without being told. The third is told when it comes back after all, and has what they have.
func TestASkipWaitsForAMajority(t *testing.T) {
	told := map[string]bool{}
	nodes, at := haltedAt(newGroup(t), told)
	first, second, third := nodes[0], nodes[1], nodes[2]
	told[first.id()] = true
	first.restart()
	first.waitsBehind(at)
	for range 2 {
		if leader := leaderOf(nodes...); leader != first {
			leader.transfer(first)
		}
		leaderOf(first)
		if err := first.write("too early"); !errors.Is(err, quorum.ErrHalted) {
			t.Fatalf("a write at a node that alone has skipped the entry: %v", err)
		}
		first.await("to read", func() error { return first.ReadBarrier(t.Context()) })
		delete(told, first.id())
		first.restart() // what it has skipped stays skipped
		first.waitsBehind(at)
	}
	third.stop()
	told[second.id()] = true
	second.restart()
	both := []*member{first, second}
	for range 2 {
		for _, m := range both {
			m.goesOn()
			m.awaitReady()
			m.writes()
			m.restart()
		}
		clear(told)
	}
	told[third.id()] = true
	third.start()
	third.goesOn()
	third.wantStateOf(leaderOf(both...))
}

// TestAStoppedLeaderServesNothingOld has two nodes skip an entry and acknowledge a write, and one of them end. The
// third, which stopped at the entry, is made the leader: it does not have the write, and confirms no read until another
// leads.
func TestAStoppedLeaderServesNothingOld(t *testing.T) {
	told := map[string]bool{}
	nodes, _ := haltedAt(newGroup(t), told)
	first, second, third := nodes[0], nodes[1], nodes[2]
	for _, m := range nodes[:2] {
		told[m.id()] = true
		m.restart()
	}
	first.goesOn()
	second.goesOn()
	first.writes()
	first.stop()
	leaderOf(second).transfer(third)
	led := third.Status().Term
	third.await("the other one to lead", func() error {
		if err := third.ReadBarrier(t.Context()); err == nil {
			t.Fatal("a read that does not see what was acknowledged was confirmed")
		}
		if !second.IsLeader() || second.Status().Term <= led {
			return errors.New("it does not")
		}
		return nil
	})
	second.writes()
}

// TestWhoAloneSkippedTakesTheOthersState has one node of three skip an entry that the others apply.
func TestWhoAloneSkippedTakesTheOthersState(t *testing.T) {
	g := newGroup(t)
	entry := fsm.EncodeEntry([][]byte{fsm.Encode(named("applied"), 0, &fsm.Checkpoint{})})
	sum, err := fsm.EntrySum(entry)
	noError(t, err)
	g.skip = func(id string) map[uint64]uint64 {
		skip := map[uint64]uint64{}
		for index := uint64(0); index < 1000 && id == "n1"; index++ {
			skip[index] = sum
		}
		return skip
	}
	nodes := g.three()
	noError(t, leaderOf(nodes...).PutIntoLog(entry))
	select {
	case err := <-nodes[0].left:
		if !errors.Is(err, cluster.ErrDiverged) {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it stays")
	}
	for _, m := range nodes[1:] {
		m.writes()
	}
}
