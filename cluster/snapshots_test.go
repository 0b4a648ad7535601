package cluster_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"coffer/cluster"
	"coffer/cluster/raftlog"
	"coffer/fsm"
	"coffer/kms"
)

// state is a node's state, log and snapshots, and Raft over them, without a network.
type state struct {
	t     *testing.T
	id    raft.ServerID
	dir   string
	store *fsm.Store
	logs  *raftlog.Log
	snaps *cluster.Snapshots
	trans *raft.InmemTransport
	raft  *raft.Raft
}

// opened opens a directory as a node's start does.
func opened(t *testing.T, id, dir string) *state {
	t.Helper()
	s := &state{t: t, id: raft.ServerID(id), dir: dir}
	log := slog.New(slog.DiscardHandler)
	var err error
	s.store, err = fsm.Open(dir, fsm.Options{Log: log, OnDamage: func(err error) { t.Error(err) }})
	noError(t, err)
	s.snaps, err = cluster.OpenSnapshots(dir, s.store, s.store.Restore, log)
	noError(t, err)
	told := func(err error) { t.Error(err) }
	s.logs, err = raftlog.Open(dir, raftlog.Options{
		Log: log, Used: s.store.Durable().Through > 0, OnDamage: told, OnFatal: told, OnHung: told,
	})
	noError(t, err)
	s.snaps.Over(s.logs)
	return s
}

func (s *state) close() {
	s.t.Helper()
	if s.raft != nil {
		noError(s.t, s.raft.Shutdown().Error())
	}
	noError(s.t, errors.Join(s.logs.Close(), s.store.Close()))
}

func (s *state) config() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID, c.LogOutput, c.TrailingLogs, c.NoSnapshotRestoreOnStart = s.id, io.Discard, 5, true
	c.HeartbeatTimeout, c.ElectionTimeout, c.CommitTimeout = 500*time.Millisecond, 500*time.Millisecond, 5*time.Millisecond
	return c
}

// run runs Raft over an opened state, connected with others.
func (s *state) run(others ...*state) {
	s.t.Helper()
	_, s.trans = raft.NewInmemTransport(raft.ServerAddress(s.id))
	for _, o := range others {
		s.trans.Connect(o.trans.LocalAddr(), o.trans)
		o.trans.Connect(s.trans.LocalAddr(), s.trans)
	}
	noError(s.t, s.snaps.Verify())
	var err error
	s.raft, err = raft.NewRaft(s.config(), s.store, s.logs, s.logs, s.snaps, s.trans)
	noError(s.t, err)
}

// founded begins a group of one in a new directory.
func founded(t *testing.T, id string) *state {
	t.Helper()
	s := opened(t, id, t.TempDir())
	_, s.trans = raft.NewInmemTransport(raft.ServerAddress(id))
	one := raft.Configuration{Servers: []raft.Server{{ID: s.id, Address: raft.ServerAddress(id)}}}
	noError(t, raft.BootstrapCluster(s.config(), s.logs, s.logs, s.snaps, s.trans, one))
	s.run()
	s.await("to lead", func() error { return s.raft.Barrier(time.Second).Error() })
	key := kms.Key{ID: "k", Account: "123456789012", Spec: kms.Symmetric,
		Materials: []kms.Material{{ID: "0", Wrapped: []byte{1}}}}
	formed := fsm.Cluster{ID: "c", Region: region, RootKeyID: "r", DefaultKeyID: "k"}
	s.apply("init", &fsm.InitCluster{Key: key, Cluster: formed})
	return s
}

func (s *state) apply(name string, c fsm.Command) {
	s.t.Helper()
	entry := fsm.EncodeEntry([][]byte{fsm.Encode(named(name), s.store.Applied(), c)})
	noError(s.t, s.raft.Apply(entry, 10*time.Second).Error())
}

func (s *state) checkpoints(name string, n int) {
	s.t.Helper()
	for i := range n {
		s.apply(fmt.Sprint(name, i), &fsm.Checkpoint{})
	}
}

func (s *state) await(what string, check func() error) {
	s.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for err := check(); err != nil; err = check() {
		if time.Now().After(deadline) {
			s.t.Fatalf("waited for %s: %v", what, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// reaches waits until a node has the state of another, and its log is whole above its own.
func (s *state) reaches(o *state) {
	s.t.Helper()
	s.await("the same state", func() error {
		index, digest := s.store.Digest()
		wantIndex, want := o.store.Digest()
		if index != wantIndex || digest != want {
			return fmt.Errorf("%016x at entry %d, wanted %016x at %d", digest, index, want, wantIndex)
		}
		return nil
	})
}

// received are the files of snapshots that a directory has.
func (s *state) received() []string {
	s.t.Helper()
	names, err := filepath.Glob(filepath.Join(s.dir, "snapshots", "*"))
	noError(s.t, err)
	return names
}

func copied(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	noError(t, os.CopyFS(to, os.DirFS(dir)))
	return to
}

// TestASnapshotCopiesNothing takes snapshots: the log is compacted, no file is made, and a node that lost its power
// goes on from its state.
func TestASnapshotCopiesNothing(t *testing.T) {
	s := founded(t, "n1")
	s.checkpoints("a", 30)
	noError(t, s.raft.Snapshot().Error())
	first, err := s.logs.FirstIndex()
	noError(t, err)
	if names := s.received(); len(names) > 0 || first < 25 {
		t.Errorf("the log begins at %d, and there are the files %v", first, names)
	}
	crashed := copied(t, s.dir)
	s.checkpoints("b", 3)
	want := s.store.Applied()
	s.close()
	for dir, want := range map[string]uint64{s.dir: want, crashed: want - 3} {
		s := opened(t, "n1", dir)
		s.run()
		s.await("to lead", func() error { return s.raft.Barrier(time.Second).Error() })
		if got := s.store.Applied(); got != want {
			t.Errorf("applied up to %d, wanted %d", got, want)
		}
		s.checkpoints("c", 30)
		noError(t, s.raft.Snapshot().Error())
		s.close()
	}
}

// TestTheLogBehindAStreamIsKept compacts the log while the state is streamed: whoever gets it can go on from there.
func TestTheLogBehindAStreamIsKept(t *testing.T) {
	s := founded(t, "n1")
	defer s.close()
	s.checkpoints("a", 20)
	meta, stream, err := s.snaps.Open("state")
	noError(t, err)
	s.checkpoints("b", 40)
	noError(t, s.raft.Snapshot().Error())
	noError(t, s.logs.GetLog(meta.Index, new(raft.Log)))
	b, err := io.ReadAll(stream)
	noError(t, errors.Join(err, stream.Close()))
	if int64(len(b)) != meta.Size {
		t.Errorf("a stream of %d bytes, announced were %d", len(b), meta.Size)
	}
	sum, err := fsm.ReadSnapshot(bytes.NewReader(b))
	noError(t, err)
	if sum.Index > meta.Index || len(meta.Configuration.Servers) != 1 || meta.ConfigurationIndex == 0 {
		t.Errorf("entry %d in the stream, announced as %+v", sum.Index, meta)
	}
}

func TestASnapshotOfNoBytesIsRefused(t *testing.T) {
	s := founded(t, "n1")
	defer s.close()
	sink, err := s.snaps.Create(1, 1000, 9, raft.Configuration{}, 1, s.trans)
	noError(t, err)
	if err := sink.Close(); err == nil {
		t.Error("the state was taken for what a leader did not send")
	}
}

// TestACrashAtEachStepOfAnInstalledSnapshot stops a node at each step of the installing of a snapshot, and stops its
// next start as well: it gets the leader's state, and its log has no hole.
func TestACrashAtEachStepOfAnInstalledSnapshot(t *testing.T) {
	leader := founded(t, "n1")
	defer leader.close()
	n := opened(t, "n2", t.TempDir())
	n.run(leader)
	leader.checkpoints("a", 20)
	noError(t, leader.raft.AddNonvoter("n2", "n2", 0, 0).Error())
	n.reaches(leader)
	n.close()
	leader.trans.Disconnect("n2")
	leader.checkpoints("b", 40)
	noError(t, leader.raft.Snapshot().Error())

	var file string
	steps := []struct {
		name string
		do   func(s *state)
	}{
		{"before", func(*state) {}},
		{"partly received", func(s *state) { s.receive(leader) }}, // and not closed
		{"received", func(s *state) {
			sink := s.receive(leader)
			noError(t, sink.Close())
			file = sink.ID()
		}},
		{"restored", func(s *state) {
			_, stream, err := s.snaps.Open(file)
			noError(t, errors.Join(err, s.store.Restore(stream)))
		}},
		{"replaced entries removed", func(s *state) {
			first, err := s.logs.FirstIndex()
			noError(t, err)
			last, err := s.logs.LastIndex()
			noError(t, errors.Join(err, s.logs.DeleteRange(first, last)))
		}},
		{"forgotten", func(s *state) { s.snaps.ForgetReplaced() }},
	}
	for i := range steps {
		t.Run(steps[i].name, func(t *testing.T) {
			dir := copied(t, n.dir)
			s := opened(t, "n2", dir)
			for _, step := range steps[:i+1] {
				step.do(s)
			}
			s.close()
			opened(t, "n2", dir).close() // a start that comes to restore what was received, and no further
			s = opened(t, "n2", dir)
			noError(t, s.snaps.Verify())
			s.close() // one that comes to remove entries
			s = opened(t, "n2", dir)
			s.run(leader)
			leader.checkpoints(steps[i].name, 10)
			s.reaches(leader)
			s.await("the received snapshot to be forgotten", func() error {
				s.snaps.ForgetReplaced()
				if names := s.received(); len(names) > 0 {
					return fmt.Errorf("the files %v are kept", names)
				}
				return nil
			})
			leader.trans.Disconnect("n2")
			s.close()
			s = opened(t, "n2", dir)
			noError(t, s.snaps.Verify())
			s.close()
		})
	}
}

// receive writes a stream of the leader's state, as Raft does when a leader sends one.
func (s *state) receive(leader *state) raft.SnapshotSink {
	s.t.Helper()
	meta, stream, err := leader.snaps.Open("state")
	noError(s.t, err)
	sink, err := s.snaps.Create(
		meta.Version, meta.Index, meta.Term, meta.Configuration, meta.ConfigurationIndex, leader.trans)
	noError(s.t, err)
	_, err = io.Copy(sink, stream)
	noError(s.t, errors.Join(err, stream.Close()))
	return sink
}

// TestAReceivedSnapshotThatIsNotWholeIsGivenUp damages a file that was received and not restored: the leader sends
// another.
func TestAReceivedSnapshotThatIsNotWholeIsGivenUp(t *testing.T) {
	leader := founded(t, "n1")
	defer leader.close()
	leader.checkpoints("a", 20)
	s := opened(t, "n2", t.TempDir())
	sink := s.receive(leader)
	noError(t, sink.Close())
	path := filepath.Join(s.dir, "snapshots", sink.ID(), "state.bin")
	b, err := os.ReadFile(path)
	noError(t, err)
	b[len(b)/2] ^= 1
	noError(t, os.WriteFile(path, b, 0o600))
	s.close()
	s = opened(t, "n2", s.dir)
	if s.store.Applied() != 0 || len(s.received()) > 0 {
		t.Errorf("entry %d was restored; the files %v are kept", s.store.Applied(), s.received())
	}
	s.run(leader)
	noError(t, leader.raft.Snapshot().Error())
	noError(t, leader.raft.AddNonvoter("n2", "n2", 0, 0).Error())
	s.reaches(leader)
	s.close()
}
