package cluster_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"coffer/cluster/pki"
	"coffer/cluster/quorum"
	"coffer/fsm"
)

// unreadable is a log entry with a command of a kind that is not known.
func unreadable() []byte { return fsm.EncodeEntry([][]byte{ill(0)["a newer kind"]}) }

func (m *member) halts() {
	m.g.t.Helper()
	m.await("to stop applying", func() error {
		if m.config.Store.Halted() == nil {
			return errors.New("it applies")
		}
		return nil
	})
}

// TestAHaltedRegionIsRead has an entry in the log that no node can apply: all go on, answer reads, refuse writes at
// once, and say why. Started with the entry to be skipped, they go on.
func TestAHaltedRegionIsRead(t *testing.T) {
	g := newGroup(t)
	nodes := g.three()
	leader := leaderOf(nodes...)
	noError(t, leader.write("before"))
	noError(t, leader.PutIntoLog(unreadable()))
	for _, m := range nodes {
		m.halts()
		if err := m.write("after " + m.id()); !errors.Is(err, quorum.ErrHalted) {
			t.Errorf("a write at %s: %v", m.id(), err)
		}
		m.await("to read", func() error { return m.ReadBarrier(t.Context()) })
		if err := m.Ready(); err == nil || !strings.Contains(err.Error(), "--skip-entry ") {
			t.Errorf("%s is ready: %v", m.id(), err)
		}
	}
	s, err := leaderOf(nodes...).status()
	noError(t, err)
	if problems := fmt.Sprint(s.Health.Problems); s.Health.Tolerates >= 0 ||
		strings.Count(problems, "--skip-entry ") != 3 {
		t.Errorf("health: %+v", s.Health)
	}
	_, flag, _ := strings.Cut(s.Ready, "--skip-entry ")
	var index, sum uint64
	if _, err := fmt.Sscanf(flag, "%d:%x", &index, &sum); err != nil {
		t.Fatalf("%q: %v", s.Ready, err)
	}
	g.skip = func(string) map[uint64]uint64 { return map[uint64]uint64{index: sum} }
	for _, m := range nodes {
		m.stop()
	}
	for _, m := range nodes {
		m.start()
	}
	for _, m := range nodes {
		m.awaitReady()
		m.await("to write", func() error { return m.write("at last " + m.id()) })
	}
}

// TestAHaltedLeaderYields has the leader alone stop at an entry, which the others skip: one of them leads, and takes
// writes.
func TestAHaltedLeaderYields(t *testing.T) {
	g := newGroup(t)
	sum, err := fsm.EntrySum(unreadable())
	noError(t, err)
	g.skip = func(id string) map[uint64]uint64 {
		skip := map[uint64]uint64{}
		for index := uint64(0); index < 1000 && id != "n1"; index++ {
			skip[index] = sum
		}
		return skip
	}
	nodes := g.three()
	first := nodes[0]
	if leader := leaderOf(nodes...); leader != first {
		status, body, err := leader.call(g.credentials(pki.Operator, "op"), http.MethodPost, "/transfer-leader?to=n1", nil)
		if err != nil || status != http.StatusOK {
			t.Fatal(status, body, err)
		}
		leaderOf(first)
	}
	noError(t, first.PutIntoLog(unreadable()))
	first.halts()
	leader := leaderOf(nodes[1:]...)
	noError(t, leader.write("goes on"))
	noError(t, first.write("forwarded by the one that has stopped"))
	if err := first.ReadBarrier(t.Context()); !errors.Is(err, quorum.ErrBehind) {
		t.Errorf("a read at the node that has stopped: %v", err)
	}
}
