package fsm_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"coffer/fsm"
)

// member is a node of a cluster of one, whose log and snapshots outlive it.
type member struct {
	logs      *raft.InmemStore
	snapshots *snapshots
}

// snapshots is a snapshot store that keeps what Raft takes the newest for.
type snapshots struct {
	raft.SnapshotStore // of nothing
	newest             *raft.SnapshotMeta
}

type ownSink struct {
	raft.SnapshotSink
	meta  raft.SnapshotMeta
	store *snapshots
}

func (s *snapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, at uint64,
	_ raft.Transport,
) (raft.SnapshotSink, error) {
	meta := raft.SnapshotMeta{Version: v, Index: index, Term: term, Configuration: c, ConfigurationIndex: at}
	return &ownSink{meta: meta, store: s}, nil
}

func (s *snapshots) List() ([]*raft.SnapshotMeta, error) {
	if s.newest == nil {
		return nil, nil
	}
	return []*raft.SnapshotMeta{s.newest}, nil
}

func (k *ownSink) ID() string              { return "newest" }
func (k *ownSink) Own() *raft.SnapshotMeta { return &k.meta }
func (k *ownSink) Cancel() error           { return nil }
func (k *ownSink) Close() error            { k.store.newest = &k.meta; return nil }

// stream is a state as Raft takes it for.
type stream struct {
	io.ReadCloser
	meta *raft.SnapshotMeta
}

func (s *stream) Meta() *raft.SnapshotMeta { return s.meta }

func newMember(t *testing.T) *member {
	t.Helper()
	m := &member{raft.NewInmemStore(), &snapshots{}}
	_, transport := raft.NewInmemTransport("n")
	one := raft.Configuration{Servers: []raft.Server{{ID: "n", Address: "n"}}}
	if err := raft.BootstrapCluster(config(), m.logs, m.logs, m.snapshots, transport, one); err != nil {
		t.Fatal(err)
	}
	return m
}

func config() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID, c.LogOutput, c.BatchApplyCh = "n", io.Discard, true
	const timeout = 50 * time.Millisecond
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = timeout, timeout, timeout
	c.NoSnapshotRestoreOnStart = true
	return c
}

// lead runs the member over a store until the returned function is called: it leads, in another term than before.
func (m *member) lead(t *testing.T, s *fsm.Store) (r *raft.Raft, stop func()) {
	t.Helper()
	_, transport := raft.NewInmemTransport("n")
	r, err := raft.NewRaft(config(), s, m.logs, m.logs, m.snapshots, transport)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); r.Barrier(time.Second).Error() != nil; {
		if time.Now().After(deadline) {
			t.Fatal("no leader")
		}
	}
	return r, func() {
		if err := r.Shutdown().Error(); err != nil {
			t.Error(err)
		}
	}
}

func propose(t *testing.T, r *raft.Raft, commands ...[]byte) {
	t.Helper()
	if err := r.Apply(fsm.EncodeEntry(commands), time.Second).Error(); err != nil {
		t.Fatal(err)
	}
}

// TestASnapshotAtANoOp takes Raft's snapshot right after an election: the store then knows, also after a power
// failure and where the snapshot is restored, that it is as far as the snapshot, and is not restored from it again.
func TestASnapshotAtANoOp(t *testing.T) {
	m := newMember(t)
	dir := t.TempDir()
	s := openWith(t, dir, fsm.Options{})
	r, stop := m.lead(t, s)
	propose(t, r, fsm.Encode(named("init"), 0, initCommand()), creates("a"))
	stop()
	r, stop = m.lead(t, s)
	if err := r.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	stop()
	taken := m.snapshots.newest
	if taken == nil || taken.Index <= s.Applied() {
		t.Fatalf("the snapshot is %+v, and %d is applied", taken, s.Applied())
	}
	file, err := os.ReadFile(filepath.Join(dir, fsm.File))
	if err != nil {
		t.Fatal(err)
	}
	crashed := t.TempDir()
	if err := os.WriteFile(filepath.Join(crashed, fsm.File), file, 0o600); err != nil {
		t.Fatal(err)
	}
	other := openWith(t, t.TempDir(), fsm.Options{})
	sent, err := s.OpenSnapshot()
	if err := errors.Join(err, other.Restore(&stream{sent, taken})); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*fsm.Store{
		"that made it": s, "after a power failure": openWith(t, crashed, fsm.Options{}), "restored": other,
	} {
		at := s.Durable()
		if at.Through != taken.Index || at.ThroughTerm != taken.Term || !exists(t, s, "a") {
			t.Errorf("the store %s is at entry %d of term %d, the snapshot at %d of %d",
				name, at.Through, at.ThroughTerm, taken.Index, taken.Term)
		}
		n, err := s.OpenSnapshot()
		if err != nil {
			t.Fatal(err)
		}
		c, of := raft.DecodeConfiguration(n.Position.Configuration), n.Position.ConfigurationIndex
		if len(c.Servers) != 1 || of != taken.ConfigurationIndex {
			t.Errorf("the store %s has the configuration %v of entry %d", name, c, of)
		}
		_ = n.Close()
	}
}

// TestWhatRaftDropsIsOnDisk takes a snapshot after a flush failed and more was applied, lets the node lose its power,
// and goes on from its file, Raft's snapshot and what is left of the log: everything that was acknowledged is there.
func TestWhatRaftDropsIsOnDisk(t *testing.T) {
	m := newMember(t)
	dir := t.TempDir()
	var full atomic.Bool
	s := openWith(t, dir, fsm.Options{Fault: func() error {
		if full.Load() {
			return &fs.PathError{Op: "write", Path: fsm.File, Err: syscall.ENOSPC}
		}
		return nil
	}})
	r, stop := m.lead(t, s)
	propose(t, r, fsm.Encode(named("init"), 0, initCommand()))
	full.Store(true)
	propose(t, r, creates("a"))
	if s.Flush() == nil || r.Snapshot().Error() == nil {
		t.Fatal("a snapshot was taken of what is not on disk")
	}
	propose(t, r, creates("b"))
	full.Store(false)
	if err := r.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(dir, fsm.File))
	if err != nil {
		t.Fatal(err)
	}
	stop()
	crashed := t.TempDir()
	if err := os.WriteFile(filepath.Join(crashed, fsm.File), file, 0o600); err != nil {
		t.Fatal(err)
	}
	s = openWith(t, crashed, fsm.Options{})
	_, stop = m.lead(t, s)
	defer stop()
	if !exists(t, s, "a") || !exists(t, s, "b") {
		t.Errorf("a is there: %v, b is there: %v", exists(t, s, "a"), exists(t, s, "b"))
	}
}
