package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"coffer/damage"
	"coffer/durable"
)

// File is the name of the Raft log in a data directory.
const File = "raft.db"

// Log is a node's Raft log, and what must survive beside it: a [raft.LogStore] without holes and a [raft.StableStore].
type Log struct {
	guard *guard
	bolt  entries

	mu      sync.Mutex // guards below
	record  *record
	reached uint64 // the last entry that is synced
	cut     bool   // entries were removed from the end, and none written there since
	held    map[*uint64]bool
}

// entries is what raft-boltdb does here; a test puts a failing disk in between.
type entries interface {
	raft.LogStore
	Close() error
}

// Open opens the log in directory dir, and makes it where there is none and o says that none is expected. What it finds
// damaged is its error ([damage.Err]); the functions of o are called from then on.
func Open(dir string, o Options) (_ *Log, err error) {
	if o.HungAfter == 0 {
		o.HungAfter = DefaultHungAfter
	}
	path := filepath.Join(dir, File)
	_, err = os.Stat(path)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return nil, err
	}
	l := &Log{guard: &guard{Options: o}, held: map[*uint64]bool{}}
	if l.record, err = openRecord(dir, missing && !o.Used); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.record.file.Close())
		}
	}()
	mended, err := l.record.load()
	if err != nil {
		return nil, err
	}
	if mended {
		o.Log.Warn("one copy of this node's term and vote was not whole and was written anew from the other: " +
			"a crash while it was written, or a failing disk")
	}
	if missing {
		// The record is made first and stays as it was made until the log is there.
		if o.Used || l.record.number != first {
			return nil, fmt.Errorf("%w: the Raft log %s is missing", damage.Err, File)
		}
		if err := create(path); err != nil {
			return nil, fmt.Errorf("create the Raft log: %w", err)
		}
	}
	err = guarded(func() error {
		if err := checkPages(path); err != nil {
			return err
		}
		if l.bolt, err = openBolt(path); err != nil {
			return err
		}
		l.reached, err = l.bolt.LastIndex()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open the Raft log: %w", err)
	}
	return l, nil
}

// create makes an empty log: completely, then renamed into place, since a power failure while bbolt makes one can
// leave it broken (etcd-io/bbolt#567).
func create(path string) error {
	temp := path + ".new"
	if err := os.RemoveAll(temp); err != nil {
		return err
	}
	store, err := openBolt(temp)
	if err != nil {
		return err
	}
	if err := store.Close(); err != nil { // bbolt has synced every transaction
		return err
	}
	return durable.Install(temp, path)
}

func openBolt(path string) (*raftboltdb.BoltStore, error) {
	return raftboltdb.New(raftboltdb.Options{
		Path: path,
		BoltOptions: &bbolt.Options{
			Timeout: time.Second, FreelistType: bbolt.FreelistMapType, NoFreelistSync: true,
		},
		MsgpackUseNewTimeFormat: true,
	})
}

// sumEntry is the checksum of an entry. raft-boltdb has none; it is kept in the entry's Extensions, which Raft leaves
// alone.
func sumEntry(l *raft.Log) uint64 {
	var d xxhash.Digest
	d.Reset()
	var head [25]byte
	binary.BigEndian.PutUint64(head[:], l.Index)
	binary.BigEndian.PutUint64(head[8:], l.Term)
	binary.BigEndian.PutUint64(head[16:], uint64(l.AppendedAt.UnixNano()))
	head[24] = byte(l.Type)
	_, _ = d.Write(head[:])
	_, _ = d.Write(l.Data)
	return d.Sum64()
}

// IsMonotonic tells Raft to empty the log when it installs or restores a snapshot, instead of leaving a hole before it
// ([raft.MonotonicLogStore]). So a hole is always a loss.
func (l *Log) IsMonotonic() bool { return true }

// FirstIndex returns the index of the first entry, 0 for an empty log.
func (l *Log) FirstIndex() (index uint64, err error) {
	err = l.guard.read(func() error {
		index, err = l.bolt.FirstIndex()
		return err
	})
	return index, err
}

// LastIndex returns the index of the last entry, 0 for an empty log.
func (l *Log) LastIndex() (index uint64, err error) {
	err = l.guard.read(func() error {
		index, err = l.bolt.LastIndex()
		return err
	})
	return index, err
}

// GetLog reads the entry at index. One that is not what was written fails with [damage.Err], one that is not there with
// [raft.ErrLogNotFound].
func (l *Log) GetLog(index uint64, entry *raft.Log) error {
	return l.guard.read(func() error {
		err := l.bolt.GetLog(index, entry)
		switch {
		case errors.Is(err, raft.ErrLogNotFound), errors.Is(err, bbolterrors.ErrDatabaseNotOpen):
			return err
		case err != nil:
			return fmt.Errorf("%w: Raft log entry %d can't be read: %w", damage.Err, index, err)
		}
		sum := entry.Extensions
		if len(sum) != 8 || entry.Index != index || binary.BigEndian.Uint64(sum) != sumEntry(entry) {
			return fmt.Errorf("%w: Raft log entry %d does not match its checksum", damage.Err, index)
		}
		entry.Extensions = nil
		return nil
	})
}

// StoreLog is [Log.StoreLogs] of one entry.
func (l *Log) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

// StoreLogs writes entries, synced. While the disk is full it fails, and may be called again.
func (l *Log) StoreLogs(entries []*raft.Log) error {
	sealed := make([]*raft.Log, len(entries))
	for i, e := range entries {
		copied := *e
		copied.Extensions = binary.BigEndian.AppendUint64(nil, sumEntry(e))
		sealed[i] = &copied
	}
	l.mu.Lock()
	// A follower that has removed entries which a new leader does not have, and then can't write that leader's, goes on
	// as if it had the removed ones (raft.appendEntries): only a new start corrects that.
	retry := !l.cut
	l.mu.Unlock()
	err := l.guard.write(retry, func() error { return l.bolt.StoreLogs(sealed) })
	if err == nil && len(entries) > 0 {
		l.mu.Lock()
		l.reached, l.cut = entries[len(entries)-1].Index, false
		l.mu.Unlock()
	}
	return err
}

// Hold keeps the entries from index on in the log while it is compacted, until release is called: whoever is sent a
// snapshot at index needs them next.
func (l *Log) Hold(index uint64) (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[&index] = true
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.held, &index)
	}
}

// DeleteRange removes the entries from low to high, synced; of those at the beginning of the log only what nobody holds
// ([Log.Hold]). While the disk is full it fails, and may be called again.
func (l *Log) DeleteRange(low, high uint64) error {
	first, err := l.FirstIndex()
	if err != nil {
		return err
	}
	l.mu.Lock()
	shortens := low <= l.reached && high >= l.reached
	switch {
	case shortens && low <= first: // a snapshot was installed: the log begins anew after it
		l.reached, l.cut = 0, true
	case shortens:
		l.reached, l.cut = low-1, true
	default:
		for index := range l.held {
			high = min(high, *index-1)
		}
	}
	reached := l.reached
	l.mu.Unlock()
	if low > high {
		return nil
	}
	if shortens { // what the record says of the log has to hold at every moment
		if err := l.keep(func(s *survives) { s.Last = min(s.Last, reached) }); err != nil {
			return err
		}
	}
	return l.guard.write(true, func() error { return l.bolt.DeleteRange(low, high) })
}

// Verify reads the log above the state, which is durable up to index durable, and fails with [damage.Err] if an entry
// is missing or not what was written. It is called before Raft starts, which panics over a missing one.
//
// Where a snapshot was installed that reached index installed in a term, Raft may have crashed before it removed the
// entries that the snapshot replaced. They would end in a hole, or be of other leaders than the snapshot, and are
// removed.
func (l *Log) Verify(durable, installed, term uint64) error {
	first, err := l.FirstIndex()
	if err != nil {
		return err
	}
	last, err := l.LastIndex()
	if err != nil {
		return err
	}
	if first > 0 && first <= installed {
		var at raft.Log
		if last >= installed {
			if err := l.GetLog(installed, &at); err != nil && !errors.Is(err, raft.ErrLogNotFound) {
				return err
			}
		}
		if at.Term != term {
			if err := l.DeleteRange(first, last); err != nil {
				return err
			}
			last = 0
		}
	}
	if err := l.guard.read(func() error { return l.whole(durable, last) }); err != nil {
		return err
	}
	if max(last, durable) < l.Recovered() {
		return ErrInterrupted
	}
	return nil
}

// whole verifies the entries above durable, up to last.
func (l *Log) whole(durable, last uint64) error {
	l.mu.Lock()
	reached := l.record.Last
	l.mu.Unlock()
	if last > 0 { // it is empty only behind a snapshot that was installed
		reached = max(reached, durable)
	}
	if last < reached {
		return fmt.Errorf("%w: the Raft log ends at entry %d: it had entry %d", damage.Err, last, reached)
	}
	var entry raft.Log
	for index := durable + 1; index <= last; index++ {
		if err := l.GetLog(index, &entry); errors.Is(err, raft.ErrLogNotFound) {
			return fmt.Errorf("%w: Raft log entry %d is missing", damage.Err, index)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// Close closes the log.
func (l *Log) Close() error {
	// How far it goes is kept, so that a start finds what was lost in between.
	err := l.keep(func(s *survives) { s.Last = max(s.Last, l.reached) })
	if l.guard.failed.Load() == nil { // a call that failed may hold bbolt's locks
		err = errors.Join(err, l.bolt.Close())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(err, l.record.file.Close())
}
