package rows

import (
	"errors"
	"fmt"
	"io"
	"os"

	"go.etcd.io/bbolt"

	"coffer/durable"
)

// Restore replaces the whole state by that of a snapshot stream: in a new file, verified and synced, which then takes
// the old one's place. Readers of the old state, however slow, go on with it and are not waited for. A stream that
// does not verify changes nothing, nor does a disk that does not take the new file.
//
// check sees each row's payload before anything is replaced, and may refuse; it may be nil. The position is the
// stream's, after as has changed it, which may be nil: Raft may know the same state as that of a later entry, and
// with another configuration.
func (s *Store) Restore(in io.Reader, check func(t *Table, key, payload []byte) error, as func(*Position)) error {
	temp := s.options.Path + ".restore"
	if err := os.RemoveAll(temp); err != nil {
		return err
	}
	db, at, err := s.build(temp, in, check, as)
	if err != nil {
		return errors.Join(err, os.RemoveAll(temp))
	}
	if err := s.replace(newFile(db, s.options.Log), temp, at); err != nil {
		return err
	}
	if s.options.Changed != nil {
		s.options.Changed(Changes{All: true})
	}
	return nil
}

// replace puts the file at temp in the place of the store's.
func (s *Store) replace(f *file, temp string, at Position) error {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	s.writing.Lock()
	defer s.writing.Unlock()
	last := s.now.Load()
	if last.file == nil {
		f.release()
		return errors.Join(ErrClosed, os.RemoveAll(temp))
	}
	if err := os.Rename(temp, s.options.Path); err != nil {
		f.release()
		return errors.Join(err, os.RemoveAll(temp))
	}
	s.durable.Store(&at)
	s.stuck.Store(nil)
	s.show(&picture{file: f, layers: []*layer{newLayer(len(s.schema))}, position: at, flushes: last.flushes + 1})
	last.file.release()
	if err := durable.SyncDir(s.options.Path); err != nil {
		err = fmt.Errorf("a restored state may not be on disk: %w", err)
		s.die(err)
		return err
	}
	return nil
}

// bytesPerTx bounds how much of a snapshot one transaction of a restore holds in memory.
const bytesPerTx = 4 << 20

// builder writes rows, in their order, into a new file.
type builder struct {
	db    *bbolt.DB
	tx    *bbolt.Tx // nil between transactions
	bytes int       // in tx
}

func (b *builder) put(table *Table, key, row []byte) (err error) {
	if b.tx == nil {
		if b.tx, err = b.db.Begin(true); err != nil {
			return err
		}
	}
	bucket := b.tx.Bucket([]byte(table.Name))
	bucket.FillPercent = filled
	if err := bucket.Put(key, row); err != nil {
		return err
	}
	if b.bytes += len(key) + len(row); b.bytes < bytesPerTx {
		return nil
	}
	return b.commit()
}

func (b *builder) commit() error {
	tx := b.tx
	b.tx, b.bytes = nil, 0
	return tx.Commit()
}

// build makes a store's file of a snapshot stream, synced and open.
func (s *Store) build(path string, in io.Reader, check func(t *Table, key, payload []byte) error, as func(*Position),
) (db *bbolt.DB, at Position, err error) {
	if db, err = newBolt(path, s.schema); err != nil {
		return nil, at, err
	}
	b := &builder{db: db}
	defer func() {
		if b.tx != nil {
			_ = b.tx.Rollback()
		}
		if err != nil {
			_ = b.db.Close()
		}
	}()
	db.NoSync, db.NoGrowSync = true, true // until it is whole
	sum, err := readSnapshot(in, s.schema, func(t *Table, key, row []byte) error {
		if check != nil {
			if err := check(t, key, row[sumLen:]); err != nil {
				return err
			}
		}
		return b.put(t, key, row)
	})
	if err != nil {
		return nil, at, err
	}
	at = sum.Position
	if as != nil {
		as(&at)
	}
	if err := b.put(meta, positionKey, at.row()); err != nil {
		return nil, at, err
	}
	if b.tx != nil {
		if err := b.commit(); err != nil {
			return nil, at, err
		}
	}
	db.NoSync, db.NoGrowSync = false, false
	return db, at, db.Sync()
}
