//go:build nextformat

package cluster_test

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"coffer/cluster"
	"coffer/cluster/pki"
	"coffer/fsm"
)

// slowDisks are the disks of nodes that can be told not to end a write of the Raft log.
type slowDisks struct {
	mu   sync.Mutex // guards below
	hold map[string]chan struct{}
}

// of has a node's disk obey.
func (d *slowDisks) of(c *cluster.Config) {
	id := c.Credentials.Identity.ID
	c.Observe.LogWritten = func(time.Duration) {
		d.mu.Lock()
		held := d.hold[id]
		d.mu.Unlock()
		if held != nil {
			<-held
		}
	}
}

// stop has the nodes' next writes wait until release is called. Their heartbeats go on.
func (d *slowDisks) stop(nodes []*member) (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	held := make(chan struct{})
	d.hold = map[string]chan struct{}{}
	for _, m := range nodes {
		d.hold[m.id()] = held
	}
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.hold = nil
		close(held)
	})
}

// TestNobodyJoinsBesideANextFormat has the raising of the format in the leader's log while no follower writes its own,
// as a leader leaves it that has given up waiting. A node that does not read that format asks to join then: it is
// refused, since the raising is not lost.
func TestNobodyJoinsBesideANextFormat(t *testing.T) {
	next := fsm.Formats().Newest
	g, disks := newGroup(t), &slowDisks{}
	g.with = disks.of
	nodes := g.three()
	leader := leaderOf(nodes...)
	release := disks.stop(others(nodes, leader))
	t.Cleanup(release) // before the nodes are stopped

	// appended waits until the leader's log, which only it writes, is longer than last.
	appended := func(what string, last uint64) uint64 {
		t.Helper()
		leader.await(what, func() error {
			if leader.Status().Last <= last {
				return errors.New("it is not in the log")
			}
			return nil
		})
		return leader.Status().Last
	}
	status := leader.Status()
	raised := make(chan error, 1)
	go func() {
		raise := fsm.Encode(named("raise"), status.Applied, &fsm.RaiseFormat{To: next, Term: status.Term})
		raised <- leader.PutIntoLog(fsm.EncodeEntry([][]byte{raise}))
	}()
	last := appended("the raising", status.Last)

	type answer struct {
		status int
		text   string
		err    error
	}
	joined := make(chan answer, 1)
	old, err := cbor.Marshal(map[int]any{1: "root", 2: fsm.FormatRange{Oldest: fsm.FirstFormat, Newest: next - 1}})
	noError(t, err)
	go func() {
		status, text, err := leader.call(g.credentials(pki.Node, "n4"), http.MethodPost, "/join", old)
		joined <- answer{status, text, err}
	}()
	appended("what the asking leads to", last)
	release()
	if got := <-joined; got.status != http.StatusForbidden || !strings.Contains(got.text, "reads formats up to") {
		t.Errorf("a node that does not read the next format: %+v", got)
	}
	noError(t, <-raised)
	if got := leader.Status().Format; got != next {
		t.Errorf("the format is %d", got)
	}
	for _, m := range leader.Status().Members {
		if m.ID == "n4" {
			t.Error("a node that does not read the region's format is a member")
		}
	}
}
