package rows

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Writer is the transaction of a batch. It sees what it has written.
type Writer struct {
	*Tx
	top      *layer // the transaction's newest layer, which it changes
	position Position
	set      []Key // rows of watched tables that were put
}

// Row is a row that is about to be written: room for its checksum, and its payload.
type Row struct{ bytes []byte }

// NewRow makes a row with a copy of a payload.
func NewRow(payload []byte) Row {
	row := make([]byte, sumLen+len(payload))
	copy(row[sumLen:], payload)
	return Row{row}
}

// Payload is the row's content. [Tx.Get] returns the same bytes, not only equal ones, in the transaction that wrote
// them.
func (r Row) Payload() []byte { return r.bytes[sumLen:] }

// Update applies a batch: what fn writes is seen by transactions that begin afterwards, or, when fn fails or panics,
// nothing of it. It waits while too much is in memory that the disk has not taken. The file follows later
// ([Store.Flush]).
//
// A contradiction ends it with [ErrContradiction], a row that is too large with [ErrTooLarge], damage with
// [damage.Err]; a panic of fn that means none of them goes on.
func (s *Store) Update(fn func(*Writer) error) error {
	if err := s.awaitRoom(); err != nil {
		return err
	}
	changes, err := s.update(fn)
	if errors.Is(err, ErrContradiction) {
		return s.judge(err)
	}
	if err != nil {
		return s.found(err)
	}
	if len(changes.Set) > 0 && s.options.Changed != nil {
		s.options.Changed(changes)
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

func (s *Store) update(fn func(*Writer) error) (changes Changes, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.refusing(); err != nil {
		return changes, err
	}
	t, err := s.begin()
	if err != nil {
		return changes, err
	}
	defer t.end()
	p := t.picture
	w := &Writer{Tx: t, top: p.layers[0].copy(), position: p.position}
	t.layers, t.memo = append([]*layer{w.top}, p.layers[1:]...), map[*byte]any{}
	if err := p.file.guard(func() error { return fn(w) }); err != nil {
		return changes, err
	}
	s.show(&picture{file: p.file, layers: t.layers, position: w.position, flushes: p.flushes})
	if int64(w.top.bytes) > s.early.Load() {
		select {
		case s.full <- struct{}{}:
		default:
		}
	}
	return Changes{Set: w.set}, nil
}

// refusing says why the store takes no changes any more, whatever the disk does.
func (s *Store) refusing() error {
	if err := cmp.Or(load(&s.damaged), load(&s.fatal)); err != nil {
		return err
	}
	select {
	case <-s.stopping:
		return ErrStopping
	default:
		return nil
	}
}

// awaitRoom waits while too much is in memory.
func (s *Store) awaitRoom() error {
	for s.now.Load().unflushed() > maxUnflushed {
		if err := s.refusing(); err != nil {
			return err
		}
		if s.Flush() == nil {
			continue
		}
		select {
		case <-time.After(flushRetry):
		case <-s.stopping:
			return ErrStopping
		}
	}
	return nil
}

// Position is how far the state has come with what the transaction has written.
func (w *Writer) Position() Position { return w.position }

// Reach says that the entry at index was applied.
func (w *Writer) Reach(index, term uint64) {
	w.position.Index, w.position.Term = index, term
	w.Pass(index, term)
}

// Pass says that Raft has come to the entry at index, and that those behind the last one applied were none for the
// store.
func (w *Writer) Pass(index, term uint64) {
	if index >= w.position.Through {
		w.position.Through, w.position.ThroughTerm = index, term
	}
}

// Configure keeps Raft's configuration, of the entry at index, encoded as the caller does.
func (w *Writer) Configure(index uint64, configuration []byte) {
	w.position.ConfigurationIndex, w.position.Configuration = index, configuration
}

// Atomically calls do: when it fails, nothing of what it wrote stays.
func (w *Writer) Atomically(do func() error) error {
	before, position, set := w.top.copy(), w.position, len(w.set)
	err := do()
	if err != nil {
		w.top, w.layers[0], w.position, w.set = before, before, position, w.set[:set]
		clear(w.found)
	}
	return err
}

// Put writes the row of key, in place of the one that it has. A row of more than 1 MiB, or a key of more than 4 KiB,
// ends the batch with [ErrTooLarge]: no snapshot could hold it.
func (w *Writer) Put(in *Table, key []byte, row Row) { w.put(in, key, w.find(in, key), row.bytes) }

// Add is Put for a key that has no row.
func (w *Writer) Add(in *Table, key []byte, row Row) {
	w.put(in, key, found{key: string(key)}, row.bytes)
}

// Remove removes the row of key. That there is none is a contradiction.
func (w *Writer) Remove(in *Table, key []byte) {
	old := w.find(in, key)
	if old.row == nil {
		in.Contradicts(key, "is missing")
	}
	w.put(in, key, old, nil)
}

// Discard removes the row of key, if it has one.
func (w *Writer) Discard(in *Table, key []byte) {
	if old := w.find(in, key); old.row != nil {
		w.put(in, key, old, nil)
	}
}

// put replaces a stored row, which may be nil, by another, which may be nil, and keeps the position up to date.
func (w *Writer) put(in *Table, key []byte, old found, row []byte) {
	var was, is []byte
	if old.row != nil {
		sum := in.verify(key, old.row)
		was = old.row[sumLen:]
		if !in.Local {
			w.position.Digest -= sum
			w.position.Records -= recordLen(key, old.row)
		}
	}
	if row != nil {
		if len(key) > maxKeyLen || len(row) > maxRowLen { // it could not be read from a snapshot
			panic(tooLarge(fmt.Sprintf("row %x of table %s has a key of %d and %d bytes", key[:min(len(key), 64)], in.Name,
				len(key), len(row))))
		}
		in.seal(key, row)
		is = row[sumLen:]
		if !in.Local {
			w.position.Digest += binary.BigEndian.Uint64(row)
			w.position.Records += recordLen(key, row)
		}
	}
	w.top.set(in, old.key, row)
	w.found[in.Num] = found{old.key, row, true}
	if in.Watched && row != nil {
		w.set = append(w.set, Key{in, old.key})
	}
	if in.Derive != nil {
		in.Derive(w, key, was, is)
	}
}
