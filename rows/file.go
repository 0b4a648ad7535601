package rows

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"coffer/damage"
	"coffer/durable"
)

// file is an open bbolt file. It is closed when the last of those that use it has let go, so that replacing it waits
// for no reader, however slow.
type file struct {
	db     *bbolt.DB
	log    *slog.Logger
	length uintptr      // of the mapping, as it was opened
	refs   atomic.Int64 // the store's own, and one for each transaction
}

// The address space that is mapped for a file to grow into. Growing beyond it maps the file anew, which waits for
// every transaction, a snapshot's included, so it must not happen while a store is open. Address space costs nothing
// (a page table of a mapping is filled where it is touched), but some kernels have no more than 512 GiB, and a
// restore has two files open.
const (
	leastMapped  = 64 << 30
	growthFactor = 4 // of the size that a file has when it is opened
)

// growth is how much a file grows at once, in bytes.
const growth = 1 << 20

func boltOptions(size int64) *bbolt.Options {
	return &bbolt.Options{
		Timeout: time.Second, FreelistType: bbolt.FreelistMapType, InitialMmapSize: max(leastMapped, int(size)*growthFactor),
	}
}

func (f *file) acquire() bool {
	for {
		n := f.refs.Load()
		if n == 0 {
			return false
		}
		if f.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (f *file) release() {
	if f.refs.Add(-1) > 0 {
		return
	}
	if err := f.db.Close(); err != nil {
		f.log.Warn("close the state store's file", "error", err)
	}
}

// mapped reports whether an address lies in the file's mapping. The caller has a transaction open.
func (f *file) mapped(address uintptr) bool {
	start := f.db.Info().Data
	return address >= start && address-start < f.length
}

// allocated is the size of all pages that were written since the file was opened, in bytes.
func (f *file) allocated() int64 {
	stats := f.db.Stats().TxStats
	return stats.GetPageAlloc()
}

// guard calls do, which reads the file: what is damage in it becomes an error that wraps [damage.Err], a
// contradiction one that wraps [ErrContradiction], and any other panic goes on. f may be nil while the file is being
// opened.
func (f *file) guard(do func() error) (err error) {
	var mapped func(uintptr) bool
	if f != nil {
		mapped = f.mapped
	}
	defer recoverContradiction(&err)
	defer damage.Faults()()
	defer damage.Recover(&err, mapped)
	return do()
}

func recoverContradiction(err *error) {
	switch p := recover().(type) {
	case nil:
	case contradiction:
		*err = fmt.Errorf("%w: %s", ErrContradiction, string(p))
	case tooLarge:
		*err = fmt.Errorf("%w: %s", ErrTooLarge, string(p))
	default:
		panic(p)
	}
}

// openFile opens a store's file with the tables of schema, and reads its position.
func openFile(path string, tables schema, log *slog.Logger) (f *file, p Position, err error) {
	db, err := openBolt(path)
	if err != nil {
		return nil, p, err
	}
	if db, err = compact(db, path, log); err != nil {
		return nil, p, err
	}
	f = newFile(db, log)
	err = f.guard(func() error {
		return db.View(func(tx *bbolt.Tx) error {
			for _, t := range tables {
				if t != nil && tx.Bucket([]byte(t.Name)) == nil {
					return fmt.Errorf("%w: the state store has no table %s", damage.Err, t.Name)
				}
			}
			p = readPosition(tx)
			return nil
		})
	})
	if err != nil {
		_ = db.Close()
		return nil, p, err
	}
	return f, p, nil
}

func newFile(db *bbolt.DB, log *slog.Logger) *file {
	f := &file{db: db, log: log, length: leastMapped}
	if info, err := os.Stat(db.Path()); err == nil {
		f.length = max(f.length, uintptr(info.Size())*growthFactor)
	}
	f.refs.Store(1)
	return f
}

func openBolt(path string) (db *bbolt.DB, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	err = (*file)(nil).guard(func() error {
		db, err = bbolt.Open(path, 0o600, boltOptions(info.Size()))
		return err
	})
	switch {
	case err == nil:
		db.AllocSize = growth
		return db, nil
	case errors.Is(err, bbolterrors.ErrTimeout):
		return nil, errors.New("the data directory is in use by another process: stop that one first")
	case errors.As(err, new(*fs.PathError)), errors.As(err, new(syscall.Errno)), errors.Is(err, damage.Err):
		return nil, fmt.Errorf("open the state store: %w", err)
	}
	return nil, fmt.Errorf("%w: the state store can't be opened: %w", damage.Err, err) // its meta pages are wrong
}

// createFile creates an empty store's file. It is synced and renamed into place, since a power failure while bbolt
// makes one can leave it broken (etcd-io/bbolt#567).
func createFile(path string, tables schema) error {
	temp := path + ".new"
	if err := os.RemoveAll(temp); err != nil {
		return err
	}
	db, err := newBolt(temp, tables)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(meta.Name)).Put(positionKey, new(Position).row())
	})
	if err := errors.Join(err, db.Sync(), db.Close()); err != nil {
		return err
	}
	return durable.Install(temp, path)
}

func newBolt(path string, tables schema) (*bbolt.DB, error) {
	db, err := bbolt.Open(path, 0o600, boltOptions(0))
	if err != nil {
		return nil, err
	}
	db.AllocSize = growth
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, t := range tables {
			if t == nil {
				continue
			}
			if _, err := tx.CreateBucket([]byte(t.Name)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}
