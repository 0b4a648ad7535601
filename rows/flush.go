package rows

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/tidwall/btree"
	"go.etcd.io/bbolt"

	"coffer/damage"
)

// When the file is brought up to date: at the latest flushInterval after a change, or when flushEarly bytes are in
// memory. Applying waits while more than maxUnflushed are there, those that are being written included; a single
// batch may go beyond it. Writing each batch by itself would sync the disk and rewrite the same pages for every few
// commands: it halved the rate of writes (docs/decisions/003-flush.md).
//
// Where rows are changed all over a large state, each is on a page of its own, and a flush writes many times what is
// in memory: into pages that are memory until then, and, since those that they replace are free only afterwards, into
// a larger file. So a flush that writes more than mostWritten has the next one come earlier.
const (
	flushInterval = 2 * time.Second
	flushEarly    = 24 << 20
	flushEarliest = 2 << 20
	mostWritten   = 64 << 20
	maxUnflushed  = 32 << 20
	flushRetry    = time.Second
)

// flushAlong flushes shortly after changes, until the store closes.
func (s *Store) flushAlong() {
	defer s.flusher.Done()
	for {
		select {
		case <-s.wake:
		case <-s.closing:
			return
		}
		for pause := flushInterval; ; pause = flushRetry {
			select {
			case <-time.After(pause):
			case <-s.full:
			case <-s.closing:
				return
			}
			err := s.Flush()
			if err == nil || s.damaged.Load() != nil || s.fatal.Load() != nil {
				break
			}
			s.options.Log.Error("applied entries can't be stored; trying again", "error", err)
		}
	}
}

// Flush writes all that is applied to the file, together with the index it reaches, in one synced transaction. When
// the disk is full it fails and may be tried again. After any other failure nobody can say what is on disk: see
// [Options.OnFatal].
func (s *Store) Flush() error {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	if err := cmp.Or(load(&s.damaged), load(&s.fatal)); err != nil {
		return err
	}
	f, rows, to := s.freeze()
	if rows == nil {
		return nil
	}
	began, before := time.Now(), f.allocated()
	err := f.guard(func() error {
		if s.options.Fault != nil {
			if err := s.options.Fault(); err != nil {
				return err
			}
		}
		return f.write(rows, &to, s.schema)
	})
	switch {
	case err == nil:
		s.early.Store(early(int64(rows.bytes), f.allocated()-before))
		s.stuck.Store(nil)
		s.durable.Store(&to)
		s.thaw()
		if s.options.Flushed != nil {
			s.options.Flushed(time.Since(began))
		}
		return nil
	case errors.Is(err, damage.Err):
		s.fail(err)
	case damage.FullBeforeSync(err):
		err = fmt.Errorf("the disk of this node does not take writes: %w", err)
		s.stuck.Store(&err)
	default:
		err = fmt.Errorf("a write to the state store failed, and what is on disk is not known: %w", err)
		s.die(err)
	}
	return err
}

// early is how many bytes in memory the next flush comes at, after one that wrote rows of so many bytes to pages of so
// many.
func early(rows, pages int64) int64 {
	return min(flushEarly, max(flushEarliest, rows*mostWritten/max(1, pages)))
}

// Backlog returns the size in bytes of what is in memory and not in the file yet, and since when; zero if nothing is.
func (s *Store) Backlog() (bytes int, since time.Time) {
	p := s.now.Load()
	for _, l := range p.layers {
		if !l.empty() {
			since = l.since // the last one is the oldest
		}
	}
	return p.unflushed(), since
}

// freeze hands what is in memory to a flush: batches go to a new layer from now on. What an earlier flush could not
// write is part of it. It returns no layer when the file is up to date.
func (s *Store) freeze() (f *file, rows *layer, to Position) {
	s.writing.Lock()
	defer s.writing.Unlock()
	p := s.now.Load()
	if p.file == nil {
		return nil, nil, to
	}
	rows = p.layers[0]
	for _, older := range p.layers[1:] {
		rows = rows.over(older, s.schema)
	}
	if rows.empty() && p.position.same(s.durable.Load()) {
		return nil, nil, to
	}
	layers := []*layer{newLayer(len(s.schema)), rows}
	s.show(&picture{file: p.file, layers: layers, position: p.position, flushes: p.flushes + 1})
	return p.file, rows, p.position
}

// thaw lets go of what a flush has written.
func (s *Store) thaw() {
	s.writing.Lock()
	defer s.writing.Unlock()
	p := s.now.Load()
	s.show(&picture{file: p.file, layers: p.layers[:1:1], position: p.position, flushes: p.flushes})
}

// write writes a layer's rows, and the position that they reach.
func (f *file) write(rows *layer, to *Position, tables schema) error {
	return f.db.Update(func(tx *bbolt.Tx) error {
		for n, tree := range rows.trees {
			if tree == nil {
				continue
			}
			if err := writeTable(tx.Bucket([]byte(tables[n].Name)), tree, tables[n].Ascending); err != nil {
				return err
			}
		}
		return tx.Bucket([]byte(meta.Name)).Put(positionKey, to.row())
	})
}

// filled is how far pages are filled where rows come in the order of their keys.
const filled = 0.95

func writeTable(b *bbolt.Bucket, rows *btree.Map[string, []byte], ascending bool) (err error) {
	if ascending {
		b.FillPercent = filled
	}
	var at []byte // bbolt copies keys
	rows.Scan(func(key string, row []byte) bool {
		if at = append(at[:0], key...); row == nil {
			err = b.Delete(at)
		} else {
			err = b.Put(at, row)
		}
		return err == nil
	})
	return err
}
