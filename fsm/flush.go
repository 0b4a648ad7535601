package fsm

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.etcd.io/bbolt"
)

// layer holds rows that are applied and not in the file yet; a nil row is one that was removed. What it
// holds is in the Raft log, which is synced, so losing it loses nothing.
//
// Writing each batch by itself would sync the disk and rewrite the same pages for every few commands: it
// halved the rate of writes (docs/decisions/003-flush.md).
type layer struct {
	rows  [tables]map[string][]byte
	bytes int
	state state // that the layer reaches
}

func newLayer() *layer { return &layer{} }

func (l *layer) set(t table, key, row []byte) {
	if l.rows[t] == nil {
		l.rows[t] = map[string][]byte{}
	}
	l.rows[t][string(key)] = row
	l.bytes += len(key) + len(row)
}

// When the file is brought up to date: at the latest flushInterval after a change. Applying waits when a
// slow disk leaves maxUnflushed in memory.
const (
	flushInterval = 2 * time.Second
	maxUnflushed  = 32 << 20
	flushRetry    = time.Second
)

// publish makes a batch visible to transactions.
func (s *Store) publish(batch *layer, st state) {
	lagging := s.lagging(batch)
	s.mu.Lock()
	for t, rows := range batch.rows {
		if s.active.rows[t] == nil {
			s.active.rows[t] = rows
		} else {
			maps.Copy(s.active.rows[t], rows)
		}
	}
	s.active.bytes += batch.bytes
	s.active.state = st
	s.mu.Unlock()
	s.moveTo(st)
	if len(lagging) > 0 {
		s.onOutbox(lagging)
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// lagging are the keys of the outbox that a batch set.
func (s *Store) lagging(batch *layer) (keys []string) {
	if s.onOutbox == nil {
		return nil
	}
	for key, row := range batch.rows[tableOutbox] {
		if row != nil {
			keys = append(keys, key)
		}
	}
	return keys
}

func (s *Store) unflushed() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.active.bytes
}

// awaitRoom waits while too much waits to be written.
func (s *Store) awaitRoom() error {
	for s.unflushed() > maxUnflushed {
		if err := s.Flush(); err == nil {
			continue
		}
		select {
		case <-time.After(flushRetry):
		case <-s.closing:
			return errors.New("the state store is closing")
		}
	}
	return nil
}

// flushAlong flushes shortly after changes, until the store closes.
func (s *Store) flushAlong() {
	defer s.flusher.Done()
	for {
		select {
		case <-s.wake:
		case <-s.closing:
			return
		}
		pause := flushInterval
		for {
			select {
			case <-time.After(pause):
			case <-s.closing:
				return
			}
			err := s.Flush()
			if err == nil || s.damaged.Load() != nil {
				break
			}
			s.log.Error("applied entries can't be stored; trying again", "error", err)
			pause = flushRetry
		}
	}
}

// Flush writes what is applied to the file, together with the index it reaches, in one synced transaction.
func (s *Store) Flush() error {
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
	s.mu.Lock()
	if s.flushing == nil && s.active.state.index > 0 {
		s.flushing, s.active = s.active, newLayer()
	}
	l := s.flushing
	s.mu.Unlock()
	if l == nil {
		return nil
	}
	if err := s.write(l); err != nil {
		if errors.Is(err, ErrDamaged) {
			s.fail(err)
			return err
		}
		err = fmt.Errorf("the disk of this node does not take writes: %w", err)
		s.stuck.Store(&err)
		return err
	}
	s.stuck.Store(nil)
	s.mu.Lock()
	s.flushing = nil
	s.mu.Unlock()
	return nil
}

func (s *Store) write(l *layer) (err error) {
	defer recoverDamage(&err)
	s.swap.RLock()
	defer s.swap.RUnlock()
	return s.db.Update(func(tx *bbolt.Tx) error {
		for t, rows := range l.rows {
			b := tx.Bucket(tableNames[t])
			for _, key := range slices.Sorted(maps.Keys(rows)) {
				var err error
				if row := rows[key]; row == nil {
					err = b.Delete([]byte(key))
				} else {
					err = b.Put([]byte(key), row)
				}
				if err != nil {
					return err
				}
			}
		}
		return tx.Bucket(tableNames[tableMeta]).Put(stateKey, l.state.row())
	})
}
