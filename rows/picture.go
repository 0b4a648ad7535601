package rows

import "go.etcd.io/bbolt"

// picture is a state: a file, the layers above it, and the position that they come to. It is immutable.
type picture struct {
	file     *file
	layers   []*layer // newest first: the one that batches go to, then what is being written to the file
	position Position
	// flushes counts how often layers were handed to a flush, or the file was replaced. A transaction of the file that
	// was begun while it stayed the same sees no more of what was applied than the picture does: what a flush writes was
	// in the picture when the flush began.
	flushes uint64
	moved   chan struct{} // closed when the next picture is there
}

// unflushed is the size in bytes of what is in memory only.
func (p *picture) unflushed() (bytes int) {
	for _, l := range p.layers {
		bytes += l.bytes
	}
	return bytes
}

// show makes a picture the one that readers take. The caller holds writing.
func (s *Store) show(p *picture) {
	p.moved = make(chan struct{})
	before := s.now.Swap(p)
	close(before.moved)
}

// begin begins a transaction over the state as it is now.
func (s *Store) begin() (*Tx, error) {
	for {
		t, err := s.beginOn(s.now.Load())
		if t != nil || err != nil {
			return t, err
		}
	}
}

// beginOn begins a transaction over a picture; it returns none when the file may be ahead of the picture.
func (s *Store) beginOn(p *picture) (*Tx, error) {
	if p.file == nil {
		return nil, ErrClosed
	}
	if !p.file.acquire() {
		return nil, nil // it was replaced or closed just now
	}
	tx, err := p.file.db.Begin(false)
	if err != nil {
		p.file.release()
		return nil, err
	}
	t := &Tx{store: s, picture: p, layers: p.layers, tx: tx}
	t.buckets, t.finders = make([]*bbolt.Bucket, len(s.schema)), make([]*bbolt.Cursor, len(s.schema))
	t.found = make([]found, len(s.schema))
	if s.now.Load().flushes != p.flushes {
		t.end()
		return nil, nil
	}
	return t, nil
}

// end ends a transaction. Ending it again does nothing.
func (t *Tx) end() {
	if t.tx != nil {
		_ = t.tx.Rollback()
		t.tx = nil
		t.picture.file.release()
	}
}
