package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/raft"

	"coffer/rows"
)

// ErrBadSnapshot says that a stream is not a whole, undamaged snapshot.
var ErrBadSnapshot = rows.ErrBadSnapshot

// Summary is what verifying a whole snapshot found.
type Summary struct {
	Cluster Cluster
	Index   uint64
	Term    uint64
	Digest  uint64
	Rows    uint64
	Secrets uint64
	Values  uint64
	// Proposals are rows of what was proposed, which snapshots of a region's own have, and archives have not.
	Proposals uint64
	Bytes     int64
	// Age is how long before it was saved the state was last known to be the latest; 0 if it was confirmed to be.
	Age time.Duration
}

// ReadSnapshot verifies a whole snapshot stream.
func ReadSnapshot(in io.Reader) (sum Summary, err error) {
	read, err := rows.ReadSnapshot(in, allTables, func(t *rows.Table, key, payload []byte) error {
		switch t {
		case tableSecrets:
			sum.Secrets++
		case tableValues:
			sum.Values++
		case tableProposals:
			sum.Proposals++
		case tableCluster:
			c, err := readable(t, key, payload)
			if bytes.Equal(key, clusterKey) {
				sum.Cluster = c
			}
			return err
		}
		return nil
	})
	at := read.Position
	sum.Index, sum.Term, sum.Digest, sum.Rows, sum.Bytes = at.Index, at.Term, at.Digest, read.Rows, read.Bytes
	sum.Age = read.Age
	return sum, err
}

// readable refuses the cluster's row of a snapshot that this build can't work with, and returns it.
func readable(t *rows.Table, key, payload []byte) (c Cluster, err error) {
	if t != tableCluster || !bytes.Equal(key, clusterKey) {
		return c, nil
	}
	if err := rowDecoding.Unmarshal(payload, &c); err != nil {
		return c, fmt.Errorf("%w: its cluster's row can't be decoded: %w", ErrBadSnapshot, err)
	}
	if err := Formats().Check(c.Format); err != nil && c.Format != 0 { // none: a state that tests made
		return c, fmt.Errorf("%w: %w", ErrBadSnapshot, err)
	}
	return c, nil
}

// OpenSnapshot opens a snapshot of the state as it is now ([rows.Snapshot]): a stream of known length that is read
// from the store itself, and has the index and term that it is of and Raft's configuration there
// (raft.DecodeConfiguration).
//
// The state may be ahead of the file: of the log, Raft may drop nothing above the index that Durable returns.
func (s *Store) OpenSnapshot() (*rows.Snapshot, error) { return s.rows.Snapshot() }

// Durable is how far the file is: all entries of Raft's log up to Through are in it, or were none for the store. What
// is above that is in memory and in the log alone.
func (s *Store) Durable() rows.Position { return s.rows.Durable() }

// Sink is what a snapshot of the store is persisted to, of which nothing is written, since the store's file has it.
type Sink interface {
	raft.SnapshotSink
	// Own returns what Raft takes the snapshot for. Raft counts entries that the store is not given, so that is a later
	// entry than the last that was applied.
	Own() *raft.SnapshotMeta
}

// Known is a stream that is restored of which it is known what Raft takes it for: an archive of another cluster gets
// an index of this one.
type Known interface{ Meta() *raft.SnapshotMeta }

// takenFor is what Raft takes a stream for, also inside Raft's wrapper; nil if that is not known.
func takenFor(in io.ReadCloser) *raft.SnapshotMeta {
	if wrapped, ok := in.(raft.ReadCloserWrapper); ok {
		in = wrapped.WrappedReadCloser()
	}
	if known, ok := in.(Known); ok {
		return known.Meta()
	}
	return nil
}

// TakenFor is the index that Raft takes a stream for, 0 if that is not known.
func TakenFor(in io.ReadCloser) uint64 {
	if m := takenFor(in); m != nil {
		return m.Index
	}
	return 0
}

// snapshot is a raft.FSMSnapshot.
type snapshot struct{ store *Store }

// Snapshot makes a snapshot for Raft, which afterwards drops entries from its log. Nothing is copied: the store's
// file is the snapshot. It is refused while an entry can't be applied, since that one and all behind it are in the
// log alone.
func (s *Store) Snapshot() (raft.FSMSnapshot, error) {
	if err := s.Halted(); err != nil {
		return nil, err
	}
	return snapshot{s}, nil
}

// Persist notes that the store was given all entries up to the snapshot, and has them and this on disk.
func (n snapshot) Persist(sink raft.SnapshotSink) error {
	began := time.Now()
	own, ok := sink.(Sink)
	if !ok {
		return errors.Join(fmt.Errorf("a snapshot's sink is a %T, wanted an fsm.Sink", sink), sink.Cancel())
	}
	m := own.Own()
	err := n.store.rows.Update(func(w *rows.Writer) error {
		w.Pass(m.Index, m.Term)
		return nil
	})
	if err == nil {
		err = n.store.rows.Flush()
	}
	if err != nil {
		return errors.Join(err, sink.Cancel())
	}
	err = sink.Close()
	if n.store.saved != nil && err == nil {
		n.store.saved(time.Since(began))
	}
	return err
}

// Release ends the snapshot.
func (snapshot) Release() {}

// Restore replaces the whole state by a snapshot ([rows.Store.Restore]). A stream that is [Known], also inside Raft's
// wrapper, is taken for the state after the entry that Raft takes it for, with Raft's configuration.
func (s *Store) Restore(in io.ReadCloser) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	defer in.Close()
	var as func(*rows.Position)
	if m := takenFor(in); m != nil {
		as = func(p *rows.Position) {
			p.Through, p.ThroughTerm = m.Index, m.Term
			p.ConfigurationIndex, p.Configuration = m.ConfigurationIndex, raft.EncodeConfiguration(m.Configuration)
		}
	}
	check := func(t *rows.Table, key, payload []byte) error {
		_, err := readable(t, key, payload)
		return err
	}
	if err := s.rows.Restore(in, check, as); err != nil {
		return err
	}
	s.proposals = nil
	s.halted.Store(nil)
	s.ended.Store(nil)
	return s.waitBehindSkipped()
}
