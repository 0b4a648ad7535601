package cluster_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coffer/cluster"
	"coffer/cluster/pki"
	"coffer/cluster/quorum"
	"coffer/fsm"
)

// checkpoints counts what was written since the region's beginning, or since it was restored: archives have none.
func (m *member) checkpoints() (n int) {
	m.g.t.Helper()
	noError(m.g.t, m.config.Store.View(func(tx *fsm.Tx) error {
		n = len(tx.Checkpoints())
		return nil
	}))
	return n
}

// want waits until the node is ready and has so many checkpoints.
func (m *member) want(checkpoints int) {
	m.g.t.Helper()
	m.awaitReady()
	m.await(fmt.Sprintf("%s to have %d checkpoints", m.id(), checkpoints), func() error {
		if err := m.ReadBarrier(m.g.t.Context()); err != nil {
			return err
		}
		if n := m.checkpoints(); n != checkpoints {
			return fmt.Errorf("it has %d", n)
		}
		return nil
	})
}

// wantStateOf waits until the node is ready and has the state of another. Checkpoints don't tell: a node that was sent
// a state has those after it only.
func (m *member) wantStateOf(other *member) {
	m.g.t.Helper()
	m.awaitReady()
	m.await(m.id()+" to have the state of "+other.id(), func() error {
		if err := m.ReadBarrier(m.g.t.Context()); err != nil {
			return err
		}
		got, want := m.Status(), other.Status()
		if got.Applied != want.Applied || got.Digest != want.Digest {
			return fmt.Errorf("%s at entry %d, wanted %s at %d", got.Digest, got.Applied, want.Digest, want.Applied)
		}
		return nil
	})
}

// archived writes a checkpoint, saves an archive and writes three more.
func (m *member) archived() []byte {
	m.g.t.Helper()
	noError(m.g.t, m.write("in the archive"))
	var archive bytes.Buffer
	noError(m.g.t, m.config.Store.Save(&archive))
	for _, id := range []string{"a", "b", "c"} {
		noError(m.g.t, m.write(id+": not archived"))
	}
	return archive.Bytes()
}

func (m *member) restore(archive []byte) error {
	code, body, err := m.call(m.g.credentials(pki.Operator, "op"), http.MethodPost, "/restore", archive)
	if err == nil && code != http.StatusOK {
		err = errors.New(body)
	}
	return err
}

func (m *member) marked() bool {
	_, err := os.Stat(filepath.Join(m.dir, "restoring"))
	return err == nil
}

// cutAt has the node's next restore end at a point.
func (m *member) cutAt(point string, before func()) {
	m.AtRestore(func(p string) error {
		if p != point {
			return nil
		}
		before()
		if point == "replaced" { // Raft itself goes on from there
			return nil
		}
		return cluster.ErrCut
	})
}

// discarded reports whether the node has moved its data aside.
func (m *member) discarded() bool {
	_, err := os.Stat(filepath.Join(m.dir, "abandoned-restore"))
	return err == nil
}

// image copies what a node has on disk. What vanishes meanwhile was of no use any more.
func (m *member) image() (to string) {
	m.await("to keep its files", func() error {
		to = m.g.t.TempDir()
		return errors.Join(m.config.Store.Flush(), os.CopyFS(to, os.DirFS(m.dir)))
	})
	return to
}

// restoredUntil restores an archive at the leader and takes all nodes back to what they had on disk when the restore
// had come to a point, as if all had ended there. They are stopped.
func restoredUntil(nodes []*member, leader *member, point string, archive []byte) {
	t := leader.g.t
	t.Helper()
	images := map[*member]string{}
	leader.AtRestore(func(p string) error {
		for _, m := range nodes {
			if p != point {
				break
			}
			if p == "restored" || p == "committed" { // or it would be taken while it changes
				m.await("to have it too", func() error {
					if m.Status().Last < leader.Status().Last {
						return errors.New("it has not")
					}
					return nil
				})
			}
			images[m] = m.image()
		}
		return nil
	})
	noError(t, leader.restore(archive))
	for _, m := range nodes {
		m.stop()
		if images[m] == "" {
			t.Fatalf("%s is nowhere on the way", point)
		}
		noError(t, errors.Join(os.RemoveAll(m.dir), os.Rename(images[m], m.dir)))
		for _, other := range nodes {
			m.config.Join = append(m.config.Join, other.config.GossipAddr)
		}
	}
}

// TestALeaderAndAVoterAreLostDuringARestore ends the leader at each point, and has one of the two others down when it
// starts again. The region goes on without the third, with the one state or the other, unless the leader's own state
// had been replaced and nobody else had the new one: then it needs both others.
func TestALeaderAndAVoterAreLostDuringARestore(t *testing.T) {
	for point, want := range map[string]int{"marked": 5, "received": 5, "replaced": 5, "restored": 1, "committed": 1} {
		t.Run(point, func(t *testing.T) {
			nodes := newGroup(t).three()
			old := leaderOf(nodes...)
			archive := old.archived()
			restoredUntil(nodes, old, point, archive)
			rest := others(nodes, old)
			old.start()
			rest[0].start()
			if old.discarded() != (point == "replaced") {
				t.Errorf("the leader's data was discarded: %v", old.discarded())
			}
			if point == "replaced" {
				rest[1].start()
			}
			next := leaderOf(nodes...)
			next.await("to take writes", func() error { return next.write("after the loss") })
			old.want(want)
			rest[0].want(want)
			if point != "replaced" {
				rest[1].start()
			}
			rest[1].wantStateOf(next)
			for _, m := range nodes {
				m.await("no mark", func() error {
					if m.marked() {
						return errors.New("it is there")
					}
					return nil
				})
			}
		})
	}
}

// TestARestoreNeedsAMajorityBesideItsLeader has a follower down: were the leader lost as well when its state is
// replaced, the region would be without a majority. So nothing is begun, until that follower is removed.
func TestARestoreNeedsAMajorityBesideItsLeader(t *testing.T) {
	nodes := newGroup(t).three()
	leader := leaderOf(nodes...)
	archive := leader.archived()
	rest := others(nodes, leader)
	dead, alive := rest[0], rest[1]
	dead.stop()
	if err := leader.restore(archive); err == nil || !strings.Contains(err.Error(), dead.id()+" do not answer") {
		t.Errorf("restored with %s down: %v", dead.id(), err)
	}
	if leader.marked() || !leader.IsLeader() {
		t.Errorf("marked %v, leads %v", leader.marked(), leader.IsLeader())
	}
	leader.await("to write", func() error { return leader.write("goes on") })
	if code, body := leader.remove(dead.id(), ""); code != http.StatusOK {
		t.Fatal(code, body)
	}
	noError(t, leader.restore(archive))
	leader.want(0)
	alive.want(0)
}

func fatal(c *cluster.Config) chan error {
	ended := make(chan error, 10)
	c.OnFatal = func(err error) { ended <- err }
	return ended
}

// TestARestoreIsWholeOrNothing restores an archive and finds it at all nodes, without a mark.
func TestARestoreIsWholeOrNothing(t *testing.T) {
	nodes := newGroup(t).three()
	leader := leaderOf(nodes...)
	archive := leader.archived()
	for _, m := range others(nodes, leader) {
		m.AtRestore(func(point string) error { // it has taken what nothing is committed behind
			if err := m.ReadBarrier(t.Context()); !errors.Is(err, quorum.ErrBehind) || !m.marked() {
				t.Errorf("at %s a follower reads: %v, marked: %v", point, err, m.marked())
			}
			return nil
		})
	}
	noError(t, leader.restore(archive))
	for _, m := range nodes {
		m.want(0)
		m.await("no mark", func() error {
			if m.marked() {
				return errors.New("it is there")
			}
			return nil
		})
	}
	if err := leader.restore([]byte("no archive")); err == nil || !leader.IsLeader() || leader.marked() {
		t.Errorf("no archive: %v, leads %v, marked %v", err, leader.IsLeader(), leader.marked())
	}
	noError(t, leader.write("goes on"))
}

// TestALeaderThatIsLostDuringARestoreTakesTheOthersState ends the leader at each point. Before the restored state has
// begun to take the old one's place the others go on with theirs. The old leader comes back, twice, keeps what it has,
// and has what they have.
func TestALeaderThatIsLostDuringARestoreTakesTheOthersState(t *testing.T) {
	for point, want := range map[string]int{"marked": 5, "restored": 1, "committed": 1} {
		t.Run(point, func(t *testing.T) {
			nodes := newGroup(t).three()
			old := leaderOf(nodes...)
			archive := old.archived()
			old.cutAt(point, func() {})
			_ = old.restore(archive) // cut short
			if !old.marked() {
				t.Fatal("there is no mark")
			}
			if err := old.ReadBarrier(t.Context()); !errors.Is(err, quorum.ErrBehind) {
				t.Errorf("a read at the leader of an unfinished restore: %v", err)
			}
			old.stop()
			rest := others(nodes, old)
			next := leaderOf(rest...)
			next.await("to take writes", func() error { return next.write("after the loss") })
			for _, m := range rest {
				m.want(want)
			}
			old.start()
			old.stop() // at once: it may not be part of the region again yet
			old.start()
			old.wantStateOf(next)
			if old.marked() || old.discarded() {
				t.Errorf("marked: %v, discarded: %v", old.marked(), old.discarded())
			}
		})
	}
}

// TestARestoredStateThatWasNeverCommittedIsDiscarded takes both followers away as soon as the leader has replaced its
// own state. It loses leadership and ends; the others go on without it, and it comes back with what they have.
func TestARestoredStateThatWasNeverCommittedIsDiscarded(t *testing.T) {
	g := newGroup(t)
	ended := map[string]chan error{}
	g.with = func(c *cluster.Config) { ended[c.Credentials.Identity.ID] = fatal(c) }
	nodes := g.three()
	old := leaderOf(nodes...)
	archive := old.archived()
	rest := others(nodes, old)
	old.cutAt("replaced", func() {
		for _, m := range rest {
			m.stop()
		}
	})
	restored := make(chan error, 1)
	go func() { restored <- old.restore(archive) }()
	select {
	case err := <-ended[old.id()]:
		t.Log(err)
	case <-time.After(time.Minute):
		t.Fatal("the leader that could not bring the restored state to anybody goes on")
	}
	if err := <-restored; err == nil {
		t.Error("the restore succeeded")
	}
	if err := old.ReadBarrier(t.Context()); !errors.Is(err, quorum.ErrBehind) || old.Ready() == nil {
		t.Errorf("the restored state is served: %v, ready: %v", err, old.Ready())
	}
	old.stop() // while it was leaving; now it is killed before it could discard anything
	for _, m := range rest {
		for _, other := range nodes {
			m.config.Join = append(m.config.Join, other.config.GossipAddr)
		}
		m.start()
	}
	next := leaderOf(rest...)
	next.await("to take writes", func() error { return next.write("after the loss") })
	old.start()
	old.want(5)
	for _, m := range rest {
		m.want(5)
	}
}

// TestALoneNodeCarriesARestoreThrough since nobody else can have gone on without it, and nobody else has its data.
func TestALoneNodeCarriesARestoreThrough(t *testing.T) {
	for point, want := range map[string]int{"marked": 4, "restored": 0, "committed": 0} {
		t.Run(point, func(t *testing.T) {
			m := newGroup(t).add("n1", 1)
			m.awaitReady()
			archive := m.archived()
			m.cutAt(point, func() {})
			_ = m.restore(archive)
			m.stop()
			m.start()
			m.want(want)
			noError(t, m.write("goes on"))
			m.await("no mark", func() error {
				if m.marked() {
					return errors.New("it is there")
				}
				return nil
			})
		})
	}
}

// TestDiscardingGoesOn where it was interrupted, with a state that is gone already.
func TestDiscardingGoesOn(t *testing.T) {
	dir := t.TempDir()
	noError(t, os.WriteFile(filepath.Join(dir, "restoring"), []byte(`{"voters":3,"index":7}`), 0o600))
	abandoned := func() bool {
		state, err := fsm.Open(t.TempDir(), fsm.Options{Log: slog.New(slog.DiscardHandler)})
		noError(t, err)
		defer state.Close()
		is, err := cluster.Abandoned(dir, state)
		noError(t, err)
		return is
	}
	inTheWay := filepath.Join(dir, "abandoned-restore")
	noError(t, os.WriteFile(inTheWay, nil, 0o600))
	if _, err := cluster.DiscardAbandoned(dir); err == nil || !abandoned() {
		t.Fatalf("interrupted by %v, it is to go on: %v", err, abandoned())
	}
	noError(t, os.Remove(inTheWay))
	for _, name := range []string{
		"raft.db", "state.db", "abandoned-restore/raft.db", "abandoned-restore/older", "snapshots/1/meta",
	} {
		path := filepath.Join(dir, name)
		noError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		noError(t, os.WriteFile(path, []byte(name), 0o600))
	}
	to, err := cluster.DiscardAbandoned(dir)
	noError(t, err)
	left, err := os.ReadDir(dir)
	noError(t, err)
	if len(left) != 1 || left[0].Name() != filepath.Base(to) {
		t.Errorf("left: %v", left)
	}
	for _, name := range []string{"raft.db", "state.db", "snapshots/1/meta"} {
		if _, err := os.Stat(filepath.Join(to, name)); err != nil {
			t.Error(err)
		}
	}
	if abandoned() {
		t.Error("it is done, and goes on")
	}
}

// TestNodesThatDiscardedFormNothing has all nodes of a region discard their data. They don't form an empty one in its
// place.
func TestNodesThatDiscardedFormNothing(t *testing.T) {
	nodes := newGroup(t).three()
	for _, m := range nodes {
		m.stop()
	}
	for _, m := range nodes {
		noError(t, os.WriteFile(filepath.Join(m.dir, "restoring"), []byte(`{"discard":true}`), 0o600))
		for _, other := range nodes {
			m.config.Join = append(m.config.Join, other.config.GossipAddr)
		}
		m.start()
	}
	for _, m := range nodes {
		m.await("the node to say that it waits", func() error {
			if !strings.Contains(m.log.String(), "it joins its region and forms none") {
				return errors.New("it does not say so")
			}
			return nil
		})
		if m.ID() != "" {
			t.Errorf("%s is part of cluster %s", m.config.Credentials.Identity.ID, m.ID())
		}
	}
}
