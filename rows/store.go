package rows

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"coffer/damage"
)

// Store is the state of one node. Its methods may be called from any goroutine.
type Store struct {
	options Options
	schema  schema
	cache   *cache

	// now is the state. It is replaced by those who hold writing.
	now     atomic.Pointer[picture]
	writing sync.Mutex // held while a batch is applied, and shortly when layers are handed to a flush or have been written

	flushing sync.Mutex               // held by the one flush, or the restore, under way
	durable  atomic.Pointer[Position] // what the file holds
	wake     chan struct{}            // tells the flusher that there is something
	full     chan struct{}            // tells the flusher that there is much
	early    atomic.Int64             // how many bytes in memory are much
	flusher  sync.WaitGroup

	stopping chan struct{} // closed by StopApplying
	stopOnce sync.Once
	closing  chan struct{}
	closed   sync.Once

	damaged atomic.Pointer[error] // set once, by fail
	fatal   atomic.Pointer[error] // set once, by die
	stuck   atomic.Pointer[error] // why the last flush failed, until one succeeds
	judged  atomic.Bool           // a contradiction was found, and a scrub that found no damage
}

// Options of a store.
type Options struct {
	Path   string // of the file
	Tables []*Table
	Log    *slog.Logger
	// OnDamage is called once, with what is damaged, as soon as it is found.
	OnDamage func(error)
	// OnFatal is called once when a write to the file has failed so that nobody can say what is on disk: the process has
	// to end, its data unmarked. The store takes no more changes.
	OnFatal func(error)
	// Changed is called after a batch, as soon as what it changed can be read, and after a restore. It must not block. It
	// may be nil.
	Changed func(Changes)
	// Flushed is called after each write to the file with how long it took. It must not block. It may be nil.
	Flushed func(time.Duration)
	// Fault is asked before each write to the file, and what it returns is the write's error: the failing disk of a
	// test. It is nil elsewhere.
	Fault func() error
}

// Changes are what a batch changed in watched tables.
type Changes struct {
	All bool // anything may have changed: the state was replaced
	Set []Key
}

// Key names a row.
type Key struct {
	Table *Table
	Key   string
}

var (
	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("the state store is closed")
	// ErrStopping says that the store takes no more changes, since the node stops.
	ErrStopping = errors.New("the state store takes no more changes: the node stops")
)

// Open opens or creates a store.
func Open(o Options) (*Store, error) {
	s := &Store{
		options: o, schema: newSchema(o.Tables), cache: newCache(),
		wake: make(chan struct{}, 1), full: make(chan struct{}, 1),
		stopping: make(chan struct{}), closing: make(chan struct{}),
	}
	if _, err := os.Stat(o.Path); errors.Is(err, fs.ErrNotExist) {
		if err := createFile(o.Path, s.schema); err != nil {
			return nil, fmt.Errorf("create the state store: %w", err)
		}
	}
	f, at, err := openFile(o.Path, s.schema, o.Log)
	if err != nil {
		return nil, err
	}
	s.early.Store(flushEarly)
	s.durable.Store(&at)
	s.now.Store(&picture{file: f, layers: []*layer{newLayer(len(s.schema))}, position: at, moved: make(chan struct{})})
	s.flusher.Add(1)
	go s.flushAlong()
	return s, nil
}

// StopApplying has changes refused with [ErrStopping] from now on, those that wait for room too. What was not taken
// is applied again from Raft's log after the next start.
func (s *Store) StopApplying() { s.stopOnce.Do(func() { close(s.stopping) }) }

// Close writes what is applied and closes the file; transactions under way go on until they end. A full disk does not
// keep it from closing. Closing again does nothing.
func (s *Store) Close() (err error) {
	s.closed.Do(func() {
		s.StopApplying()
		close(s.closing)
		s.flusher.Wait()
		err = s.Flush()
		s.flushing.Lock()
		defer s.flushing.Unlock()
		s.writing.Lock()
		defer s.writing.Unlock()
		last := s.now.Load()
		s.show(&picture{position: last.position, flushes: last.flushes + 1})
		last.file.release()
	})
	return err
}

// fail records damage: from now on every transaction is refused.
func (s *Store) fail(err error) {
	if s.damaged.CompareAndSwap(nil, &err) && s.options.OnDamage != nil {
		s.options.OnDamage(err)
	}
}

// die records that the disk can't be trusted with writes any more.
func (s *Store) die(err error) {
	if s.fatal.CompareAndSwap(nil, &err) && s.options.OnFatal != nil {
		s.options.OnFatal(err)
	}
}

// Err says why the store can't take changes at the moment: damage, or a disk that refuses writes.
func (s *Store) Err() error {
	return cmp.Or(load(&s.damaged), load(&s.fatal), load(&s.stuck))
}

func load(p *atomic.Pointer[error]) error {
	if err := p.Load(); err != nil {
		return *err
	}
	return nil
}

// Position is how far the state has come.
func (s *Store) Position() Position { return s.now.Load().position }

// Durable is the position of the file: what is behind it is in memory only. Raft must not drop what comes after it
// from its log.
func (s *Store) Durable() Position { return *s.durable.Load() }

// WaitApplied waits until the entry at index is applied.
func (s *Store) WaitApplied(ctx context.Context, index uint64) error {
	for {
		p := s.now.Load()
		if p.position.Index >= index {
			return nil
		}
		select {
		case <-p.moved:
		case <-s.closing:
			return ErrClosed
		case <-ctx.Done():
			return fmt.Errorf("wait until entry %d is applied: %w", index, ctx.Err())
		}
	}
}

// View calls fn with a read transaction over the state as it is now. Damage that fn meets ends it with [damage.Err];
// a panic that means no damage goes on to the caller.
func (s *Store) View(fn func(*Tx) error) error {
	err := s.view(fn)
	if errors.Is(err, ErrContradiction) {
		return s.judge(err)
	}
	return err
}

func (s *Store) view(fn func(*Tx) error) error {
	if err := load(&s.damaged); err != nil {
		return err
	}
	t, err := s.begin()
	if err != nil {
		return err
	}
	defer t.end()
	t.cache = s.cache
	return s.found(t.picture.file.guard(func() error { return fn(t) }))
}

// found records err where it is damage.
func (s *Store) found(err error) error {
	if errors.Is(err, damage.Err) {
		s.fail(err)
	}
	return err
}

// judge decides whether a contradiction comes from damage: rows that were lost make the digest wrong. It is asked
// once; then the scrubs that run anyway have to do.
func (s *Store) judge(contradiction error) error {
	if s.judged.Load() {
		return contradiction
	}
	if _, err := s.Scrub(context.Background()); err != nil {
		return err
	}
	s.judged.Store(true)
	s.options.Log.Error("the state contradicts itself though nothing of it is damaged", "error", contradiction)
	return contradiction
}
