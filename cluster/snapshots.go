package cluster

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"coffer/cluster/raftlog"
	"coffer/fsm"
	"coffer/rows"
)

// snapshots is Raft's snapshot store over the state itself, which is durable and can be streamed at any time. A
// snapshot that Raft takes copies nothing: it lets Raft drop log entries that the state's file has. One that is sent
// is read from the state while it is sent, and the log behind it is kept. Only one that is received is a file, until
// the state that it becomes is durable and the entries that it replaces are out of the log.
type snapshots struct {
	store    *fsm.Store
	logs     *raftlog.Log
	files    *raft.FileSnapshotStore // that were received
	dir      string                  // of the files
	log      *slog.Logger
	received atomic.Uint64 // index of the newest file, 0 if there is none
	taken    atomic.Uint64 // how many files were written since the start
}

// stateID names the snapshot that is the state itself.
const stateID = "state"

// heldAfter is how long the log behind a stream is kept when it has ended, so that who got it can go on from there.
const heldAfter = time.Minute

// forgetInterval is how often is looked for a received snapshot that is of no use any more.
const forgetInterval = 5 * time.Second

// openSnapshots opens the snapshots of a node that does not take part yet. What a crash left of a received one is
// restored by restore, as Raft would, or given up: it was not acknowledged before it was restored.
func openSnapshots(
	dir string, store *fsm.Store, restore func(io.ReadCloser) error, log *slog.Logger,
) (*snapshots, error) {
	files, err := raft.NewFileSnapshotStoreWithLogger(dir, 1, raftLogger(log))
	if err != nil {
		return nil, fmt.Errorf("open the snapshot directory: %w", err)
	}
	s := &snapshots{store: store, files: files, dir: filepath.Join(dir, "snapshots"), log: log}
	unfinished, err := filepath.Glob(filepath.Join(s.dir, "*.tmp"))
	if err != nil {
		return nil, err
	}
	for _, path := range unfinished {
		if err := os.RemoveAll(path); err != nil {
			return nil, err
		}
	}
	if err := s.dropUntouched(dir); err != nil {
		return s, err
	}
	newest, err := s.file()
	if err != nil || newest == nil {
		return s, err
	}
	s.received.Store(newest.Index)
	if newest.Index <= store.Durable().Through {
		return s, nil
	}
	if err := s.restore(newest, restore); errors.Is(err, fsm.ErrBadSnapshot) {
		log.Error("a snapshot that was received is not whole; the leader will send another", "error", err)
		return s, s.forget()
	} else if err != nil {
		return s, fmt.Errorf("restore the snapshot that was received: %w", err)
	}
	return s, nil
}

// dropUntouched ends a restore that this node led and that had changed nothing yet: the archive goes, then the mark.
func (s *snapshots) dropUntouched(dir string) error {
	through := s.store.Durable().Through
	m, there, err := readRestoreMark(dir)
	if err != nil || !there || !m.untouched(through) {
		return err
	}
	newest, err := s.file()
	if err != nil {
		return err
	}
	if newest != nil && newest.Index > through {
		if err := s.forget(); err != nil {
			return err
		}
	}
	s.log.Warn("this node ended when a restore had begun and nothing was changed yet: it has to be made again")
	return removeRestoreMark(dir)
}

// file describes the newest received snapshot that is kept, nil if there is none.
func (s *snapshots) file() (*raft.SnapshotMeta, error) {
	metas, err := s.files.List()
	if err != nil || len(metas) == 0 {
		return nil, err
	}
	return metas[0], nil
}

func (s *snapshots) restore(m *raft.SnapshotMeta, restore func(io.ReadCloser) error) error {
	_, stream, err := s.Open(m.ID)
	if err != nil {
		return fmt.Errorf("%w: %w", fsm.ErrBadSnapshot, err)
	}
	return restore(stream)
}

// reach is the index of the newest state that this node was given, be it restored or applied.
func (s *snapshots) reach() uint64 { return max(s.received.Load(), s.store.Durable().Through) }

// forget removes the received snapshots.
func (s *snapshots) forget() error {
	metas, err := s.files.List()
	for _, m := range metas {
		err = errors.Join(err, os.RemoveAll(filepath.Join(s.dir, m.ID)))
	}
	if err == nil {
		s.received.Store(0)
	}
	return err
}

// forgetReplaced removes a received snapshot when it is of no use any more: it is restored, which is durable, and
// Raft has removed the log entries before it. Until then a start has to know that they were replaced.
func (s *snapshots) forgetReplaced() {
	received := s.received.Load()
	if received == 0 || s.store.Durable().Through < received {
		return
	}
	if first, err := s.logs.FirstIndex(); err != nil || first > 0 && first <= received {
		return
	}
	if err := s.forget(); err != nil {
		s.log.Warn("a snapshot that was received and restored could not be removed", "error", err)
	}
}

// verify verifies the log above the state.
func (s *snapshots) verify() error {
	installed, err := s.file()
	if err != nil {
		return err
	}
	if installed == nil {
		installed = &raft.SnapshotMeta{}
	}
	if err := s.logs.Verify(s.store.Durable().Through, installed.Index, installed.Term); err != nil {
		return err
	}
	return s.forget()
}

// List describes the state as it is in its file ([raft.SnapshotStore]).
func (s *snapshots) List() ([]*raft.SnapshotMeta, error) {
	at := s.store.Durable()
	if at.Through == 0 {
		return nil, nil
	}
	return []*raft.SnapshotMeta{metaOf(at)}, nil
}

func metaOf(at rows.Position) *raft.SnapshotMeta {
	m := &raft.SnapshotMeta{
		Version: raft.SnapshotVersionMax, ID: stateID, Index: at.Through, Term: at.ThroughTerm,
		ConfigurationIndex: at.ConfigurationIndex,
	}
	if at.Configuration != nil {
		m.Configuration = raft.DecodeConfiguration(at.Configuration)
	}
	return m
}

// Open opens a received snapshot, or a stream of the state as it is now ([raft.SnapshotStore]).
func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if id != stateID {
		meta, file, err := s.files.Open(id)
		if err != nil {
			return nil, nil, err
		}
		return meta, &fileStream{file, meta}, nil
	}
	defer s.logs.Hold(1)() // nothing is dropped before it is known what the stream is of
	stream, err := s.store.OpenSnapshot()
	if err != nil {
		return nil, nil, err
	}
	meta := metaOf(stream.Position)
	meta.Size = stream.Size()
	return meta, &stateStream{stream, s.logs.Hold(meta.Index)}, nil
}

// fileStream is a received snapshot, of which the store is told what Raft takes it for ([fsm.Known]).
type fileStream struct {
	io.ReadCloser
	meta *raft.SnapshotMeta
}

func (f *fileStream) Meta() *raft.SnapshotMeta { return f.meta }

// stateStream is a stream of the state.
type stateStream struct {
	*rows.Snapshot
	release func()
}

func (s *stateStream) Close() error {
	time.AfterFunc(heldAfter, s.release)
	return s.Snapshot.Close()
}

// Create makes a sink: of a snapshot that is received, or of the state's own, of which nothing is written
// ([raft.SnapshotStore]).
func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, trans raft.Transport,
) (raft.SnapshotSink, error) {
	// Others count on what this node has skipped. It is not given up for a state that may have applied it.
	if at, stopped := s.store.Stopped(); stopped && at.Skipped {
		return nil, fmt.Errorf("no other state is taken now: %w", s.store.Halted())
	}
	return &sink{
		store: s,
		meta: raft.SnapshotMeta{
			Version: version, ID: stateID, Index: index, Term: term,
			Configuration: configuration, ConfigurationIndex: configurationIndex,
		},
		create: func() (raft.SnapshotSink, error) {
			return s.files.Create(version, index, term, configuration, configurationIndex, trans)
		},
	}, nil
}

// sink is a snapshot on its way in ([fsm.Sink]).
type sink struct {
	store  *snapshots
	meta   raft.SnapshotMeta
	own    bool
	create func() (raft.SnapshotSink, error)
	file   raft.SnapshotSink // nil until something is written
}

func (k *sink) Own() *raft.SnapshotMeta {
	k.own = true
	return &k.meta
}

func (k *sink) ID() string {
	if k.file == nil {
		return stateID
	}
	return k.file.ID()
}

func (k *sink) Write(b []byte) (n int, err error) {
	if k.file == nil {
		if k.file, err = k.create(); err != nil {
			return 0, err
		}
	}
	return k.file.Write(b)
}

func (k *sink) Close() error {
	switch {
	case k.file == nil && k.own:
		return nil
	case k.file == nil: // it would be taken for the state's own
		return errors.New("a snapshot of no bytes was received")
	}
	if err := k.file.Close(); err != nil {
		return err
	}
	k.store.received.Store(k.meta.Index)
	k.store.taken.Add(1)
	return nil
}

func (k *sink) Cancel() error {
	if k.file == nil {
		return nil
	}
	return k.file.Cancel()
}
