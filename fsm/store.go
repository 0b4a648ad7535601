package fsm

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"coffer/rows"
)

// Store is the state of one node: the machine that Raft's entries are applied to. Its methods may be called from any
// goroutine.
type Store struct {
	rows      *rows.Store
	log       *slog.Logger
	skip      map[uint64]uint64
	saved     func(time.Duration) // may be nil
	onOutbox  atomic.Pointer[func(keys []string)]
	halted    atomic.Pointer[haltedError]
	applying  atomic.Pointer[raft.Log] // nil between batches
	expecting sync.Map                 // from where an entry begins to its []Decoded
	ended     atomic.Pointer[error]    // why entries are no longer taken: what came after one that was not would be wrong

	changing  sync.Mutex // held while entries are applied or the state is replaced; guards below
	proposals *proposals // as of the state, nil until it is needed
	given     uint64     // index of the last entry that Raft gave
}

// File is the name of the store's file in a data directory.
const File = "state.db"

// Options of a store.
type Options struct {
	Log *slog.Logger
	// OnDamage is called once, with what is damaged, as soon as it is found.
	OnDamage func(error)
	// OnFatal is called once when a write failed so that nobody can say what is on disk, such as a failed fsync: the
	// process has to end, its data unmarked, and starts again from what is on disk.
	OnFatal func(error)
	// Skip are entries of the log that are not applied, by index: each with its checksum ([EntrySum]), so that no other
	// entry is skipped. Behind such an entry the store waits until it hears that the region skips it ([Store.GoOn]).
	Skip map[uint64]uint64
	// Flushed is called after each write to the file, and Saved after each snapshot for Raft, with how long it took.
	// They may be nil.
	Flushed, Saved func(time.Duration)
	// Fault is the failing disk of a test ([rows.Options]); nil elsewhere.
	Fault func() error
}

// Open opens or creates the store in directory dir.
func Open(dir string, o Options) (_ *Store, err error) {
	s := &Store{log: o.Log, skip: o.Skip, saved: o.Saved}
	s.rows, err = rows.Open(rows.Options{
		Path: filepath.Join(dir, File), Tables: allTables, Log: o.Log, OnDamage: o.OnDamage, OnFatal: o.OnFatal,
		Fault: o.Fault, Flushed: o.Flushed,
		Changed: func(c rows.Changes) {
			if notice := s.onOutbox.Load(); notice != nil {
				(*notice)(outboxKeys(c))
			}
		},
	})
	if err != nil {
		return nil, err
	}
	if err := s.waitBehindSkipped(); err != nil {
		return nil, errors.Join(err, s.rows.Close())
	}
	return s, nil
}

// OnOutbox has notice called from now on with the keys of entries of the outbox that were made or changed, as soon as
// they can be read. No keys mean that anything may have changed. It must not block.
func (s *Store) OnOutbox(notice func(keys []string)) { s.onOutbox.Store(&notice) }

// outboxKeys are the keys of changes: the outbox is the only table that is watched.
func outboxKeys(c rows.Changes) (keys []string) {
	for _, k := range c.Set {
		keys = append(keys, k.Key)
	}
	return keys
}

// StopApplying has entries refused from now on, those that wait for a full disk too: they are applied after the next
// start.
func (s *Store) StopApplying() { s.rows.StopApplying() }

// Close writes what is applied and closes the file. A full disk does not keep it from closing. Closing again does
// nothing.
func (s *Store) Close() error { return s.rows.Close() }

// Err says why the store can't take changes at the moment: damage, an entry that it can't apply, or a disk that refuses
// writes.
func (s *Store) Err() error {
	if err := s.rows.Err(); err != nil {
		return err
	}
	return s.Halted()
}

// View calls fn with a read transaction over the state as it is now. A panic of fn that means no damage goes on to
// the caller.
func (s *Store) View(fn func(*Tx) error) error {
	return s.rows.View(func(tx *rows.Tx) error { return fn(&Tx{tx}) })
}

// Flush writes what is applied to the file, together with the index it reaches, in one synced transaction.
func (s *Store) Flush() error { return s.rows.Flush() }

// Scrub verifies everything that is stored, and returns the number of rows ([rows.Store.Scrub]).
func (s *Store) Scrub(ctx context.Context) (rows int, err error) { return s.rows.Scrub(ctx) }

// Backlog returns the size in bytes of what is applied and not in the file yet, and since when; zero if nothing is.
func (s *Store) Backlog() (bytes int, since time.Time) { return s.rows.Backlog() }

// FreeBytes is the size of the file's pages that hold nothing.
func (s *Store) FreeBytes() int64 { return s.rows.FreeBytes() }

// Applied is the index of the last applied entry.
func (s *Store) Applied() uint64 { return s.rows.Position().Index }

// Configured is the index of the entry with the configuration as of the last applied entry.
func (s *Store) Configured() uint64 { return s.rows.Position().ConfigurationIndex }

// Digest is the sum of all rows' checksums after the entry at index.
func (s *Store) Digest() (index, digest uint64) {
	at := s.rows.Position()
	return at.Index, at.Digest
}

// WaitApplied waits until the entry at index is applied. It fails at once when the store has stopped applying before
// it.
func (s *Store) WaitApplied(ctx context.Context, index uint64) error {
	if err := s.Halted(); err != nil && s.Applied() < index {
		return err
	}
	return s.rows.WaitApplied(ctx, index)
}

// Save writes an archive of the state as it is now to w, while writes go on: a snapshot without what was proposed,
// since the commands of the log that it came from mean nothing in the one that it will be restored to.
func (s *Store) Save(w io.Writer) error { return s.rows.Save(w) }

// SaveStale is Save of a state of which nobody confirms that it is the latest: it last was known to be age before.
func (s *Store) SaveStale(w io.Writer, age time.Duration) error { return s.rows.SaveStale(w, age) }
