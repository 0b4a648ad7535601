package fsm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"coffer/damage"
	"coffer/durable"
)

// Store is the state of one node. Its methods may be called from any goroutine.
type Store struct {
	path     string
	log      *slog.Logger
	onDamage func(error)
	onOutbox func(keys []string)
	closing  chan struct{}
	closed   sync.Once
	decoded  *cache

	proposals *proposals // as of position, nil until it is needed; Raft applies and restores one at a time

	// swap is held for reading while db is used, and for writing while a restore replaces it.
	swap sync.RWMutex
	db   *bbolt.DB

	// mu guards the layers. Transactions that see them hold it for reading; publishing a batch, and
	// beginning and ending a flush, hold it for writing, shortly, and with no transaction of db open: one
	// that grows the file waits until others have ended.
	mu       sync.RWMutex
	active   *layer // applied, not in db yet
	flushing *layer // older than active, being written to db; nil if none is

	flushMu sync.Mutex    // held by the one flush under way
	wake    chan struct{} // tells the flusher that there is something
	flusher sync.WaitGroup

	damaged atomic.Pointer[error] // set once, by fail
	stuck   atomic.Pointer[error] // why the last flush failed, until one succeeds

	position struct {
		sync.Mutex
		state
		moved chan struct{} // closed and replaced when state changes
	}
}

// state is how far this node has applied the log.
type state struct {
	index, term, digest uint64
}

// File is the name of the store's file in a data directory.
const File = "state.db"

var stateKey = []byte("state")

// Options of a store.
type Options struct {
	Log *slog.Logger
	// OnDamage is called once, with what is damaged, as soon as it is found.
	OnDamage func(error)
	// OnOutbox is called with the keys of entries of the outbox that were made or changed, as soon as they can be read.
	// It must not block. It may be nil.
	OnOutbox func(keys []string)
}

// Open opens or creates the store in directory dir. A new file is created, synced and renamed into
// place, since a power failure while bbolt makes one can leave it broken (etcd-io/bbolt#567).
func Open(dir string, o Options) (*Store, error) {
	path := filepath.Join(dir, File)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := createStore(path); err != nil {
			return nil, fmt.Errorf("create the state store: %w", err)
		}
	}
	s := &Store{path: path, log: o.Log, onDamage: o.OnDamage, onOutbox: o.OnOutbox, closing: make(chan struct{}), active: newLayer(), decoded: newCache(), wake: make(chan struct{}, 1)}
	s.position.moved = make(chan struct{})
	db, st, err := openDB(path)
	if err != nil {
		return nil, err
	}
	s.db = db
	s.position.state = st
	s.flusher.Add(1)
	go s.flushAlong()
	return s, nil
}

// mapped is address space for the file to grow into: growing beyond it waits for every read transaction,
// a snapshot's included.
const mapped = 16 << 30

// allocated is how much the file grows at once.
const allocated = 1 << 20

func boltOptions() *bbolt.Options {
	return &bbolt.Options{Timeout: time.Second, FreelistType: bbolt.FreelistMapType, InitialMmapSize: mapped}
}

func openDB(path string) (db *bbolt.DB, st state, err error) {
	defer recoverDamage(&err)
	db, err = bbolt.Open(path, 0o600, boltOptions())
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return nil, st, errors.New("the data directory is in use by another process: stop that one first")
	} else if err != nil {
		return nil, st, fmt.Errorf("%w: the state store can't be opened: %w", ErrDamaged, err)
	}
	db.AllocSize = allocated
	if err := addTables(db); err != nil {
		return nil, st, errors.Join(fmt.Errorf("add the tables of this version of Coffer: %w", err), db.Close())
	}
	err = db.View(func(tx *bbolt.Tx) error {
		for _, name := range tableNames {
			if tx.Bucket(name) == nil {
				return fmt.Errorf("%w: the state store has no table %s", ErrDamaged, name)
			}
		}
		st = readState(tx)
		return nil
	})
	if err != nil {
		_ = db.Close()
	}
	return db, st, err
}

// addTables makes the tables that a file of an earlier version lacks.
func addTables(db *bbolt.DB) error {
	const first = tableLinks // that was added after the first version
	lacks := false
	err := db.View(func(tx *bbolt.Tx) error {
		lacks = tx.Bucket(tableNames[tables-1]) == nil
		return nil
	})
	if err != nil || !lacks {
		return err
	}
	return db.Update(func(tx *bbolt.Tx) error {
		for _, name := range tableNames[first:] {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
}

func readState(tx *bbolt.Tx) state {
	row := tx.Bucket(tableNames[tableMeta]).Get(stateKey)
	if row == nil {
		panic(tableMeta.damaged(stateKey, "is missing"))
	}
	p := tableMeta.open(stateKey, row)
	if len(p) != 24 {
		panic(tableMeta.damaged(stateKey, "has the wrong length"))
	}
	return state{binary.BigEndian.Uint64(p), binary.BigEndian.Uint64(p[8:]), binary.BigEndian.Uint64(p[16:])}
}

func (st state) row() []byte {
	b := make([]byte, 0, 24)
	b = binary.BigEndian.AppendUint64(b, st.index)
	b = binary.BigEndian.AppendUint64(b, st.term)
	return seal(tableMeta, stateKey, binary.BigEndian.AppendUint64(b, st.digest))
}

// seal puts a row's checksum before its payload.
func seal(t table, key, payload []byte) []byte {
	row := make([]byte, sumLen, sumLen+len(payload))
	binary.BigEndian.PutUint64(row, t.sum(key, payload))
	return append(row, payload...)
}

func createStore(path string) error {
	temp := path + ".new"
	if err := os.RemoveAll(temp); err != nil {
		return err
	}
	db, err := newDB(temp)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(tableNames[tableMeta]).Put(stateKey, state{}.row())
	})
	if err := errors.Join(err, db.Sync(), db.Close()); err != nil {
		return err
	}
	return durable.Install(temp, path)
}

func newDB(path string) (*bbolt.DB, error) {
	db, err := bbolt.Open(path, 0o600, boltOptions())
	if err != nil {
		return nil, err
	}
	db.AllocSize = allocated
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range tableNames {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		_ = db.Close()
	}
	return db, err
}

// Close writes what is applied, waits for transactions under way and closes the file. Closing again does nothing.
func (s *Store) Close() (err error) {
	s.closed.Do(func() {
		close(s.closing)
		s.flusher.Wait()
		flushErr := s.Flush()
		s.swap.Lock()
		defer s.swap.Unlock()
		err = errors.Join(flushErr, s.db.Close())
	})
	return err
}

// recoverDamage turns what damaged pages make bbolt do (panics of its own, faults in the mapped file) and our own
// findings into an error.
func recoverDamage(err *error) {
	switch p := recover().(type) {
	case nil:
	case damage.Found:
		*err = fmt.Errorf("%w: %s", ErrDamaged, string(p))
	default:
		*err = fmt.Errorf("%w: a page of the state store can't be read: %v", ErrDamaged, p)
	}
}

// fail records damage: from now on every transaction is refused.
func (s *Store) fail(err error) {
	if s.damaged.CompareAndSwap(nil, &err) && s.onDamage != nil {
		s.onDamage(err)
	}
}

// Err says why the store can't take changes at the moment: damage, or a disk that refuses writes.
func (s *Store) Err() error {
	if err := s.damaged.Load(); err != nil {
		return *err
	}
	if err := s.stuck.Load(); err != nil {
		return *err
	}
	return nil
}

// View calls fn with a read transaction over the state as it is now.
func (s *Store) View(fn func(*Tx) error) error { return s.reported(s.view(fn, true)) }

// Scan is View for walking indexes (Tx.Secrets, Tx.OldestDeletion): it writes what is applied to the file first.
func (s *Store) Scan(fn func(*Tx) error) error {
	if err := s.Flush(); err != nil {
		return err
	}
	return s.reported(s.view(fn, false))
}

func (s *Store) reported(err error) error {
	if errors.Is(err, ErrDamaged) {
		s.fail(err)
	}
	return err
}

func (s *Store) view(fn func(*Tx) error, layers bool) (err error) {
	if err := s.damaged.Load(); err != nil {
		return *err
	}
	s.swap.RLock()
	defer s.swap.RUnlock()
	t := &Tx{cache: s.decoded}
	if layers {
		s.mu.RLock()
		defer s.mu.RUnlock()
		t.layers = [4]*layer{s.active, s.flushing}
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer recoverDamage(&err)
	if t.tx, err = s.db.Begin(false); err != nil {
		return err
	}
	defer func() { _ = t.tx.Rollback() }()
	return fn(t)
}

// Applied is the index of the last applied entry.
func (s *Store) Applied() uint64 {
	s.position.Lock()
	defer s.position.Unlock()
	return s.position.index
}

// Digest is the sum of all rows' checksums after the entry at index.
func (s *Store) Digest() (index, digest uint64) {
	s.position.Lock()
	defer s.position.Unlock()
	return s.position.index, s.position.digest
}

// WaitApplied waits until the entry at index is applied.
func (s *Store) WaitApplied(ctx context.Context, index uint64) error {
	for {
		s.position.Lock()
		reached, moved := s.position.index >= index, s.position.moved
		s.position.Unlock()
		if reached {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("wait until entry %d is applied: %w", index, ctx.Err())
		}
	}
}

func (s *Store) moveTo(st state) {
	s.position.Lock()
	defer s.position.Unlock()
	s.position.state = st
	close(s.position.moved)
	s.position.moved = make(chan struct{})
}
