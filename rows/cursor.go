package rows

import (
	"bytes"
	"iter"

	"github.com/tidwall/btree"
	"go.etcd.io/bbolt"
)

// source is one of those that a cursor merges: a layer's tree or the file's bucket. Its key is nil at the end.
type source struct {
	tree     btree.MapIter[string, []byte]
	bucket   *bbolt.Cursor // nil for a tree
	key, row []byte
}

// start goes to the first key from bound on, or with down to the last one below it; no bound means the end where the
// walk begins.
func (s *source) start(bound []byte, down bool) {
	switch {
	case s.bucket == nil:
		s.startTree(bound, down)
	case !down:
		s.key, s.row = s.bucket.Seek(bound)
	case bound == nil:
		s.key, s.row = s.bucket.Last()
	default:
		if k, _ := s.bucket.Seek(bound); k == nil {
			s.key, s.row = s.bucket.Last()
		} else {
			s.key, s.row = s.bucket.Prev()
		}
	}
}

func (s *source) startTree(bound []byte, down bool) {
	switch {
	case !down:
		s.at(s.tree.Seek(string(bound)))
	case bound == nil || !s.tree.Seek(string(bound)):
		s.at(s.tree.Last())
	default:
		s.at(s.tree.Prev())
	}
}

func (s *source) step(down bool) {
	switch {
	case s.bucket == nil && down:
		s.at(s.tree.Prev())
	case s.bucket == nil:
		s.at(s.tree.Next())
	case down:
		s.key, s.row = s.bucket.Prev()
	default:
		s.key, s.row = s.bucket.Next()
	}
}

func (s *source) at(found bool) {
	s.key, s.row = nil, nil
	if found {
		s.key, s.row = []byte(s.tree.Key()), s.tree.Value()
	}
}

// cursor walks the rows of a table: for each key it takes the newest source that says anything of it.
type cursor struct {
	sources []source // newest first, the file last
	down    bool
}

func (t *Tx) cursor(in *Table, bound []byte, down bool) *cursor {
	c := &cursor{down: down}
	for _, l := range t.layers {
		if tree := l.trees[in.Num]; tree != nil {
			c.sources = append(c.sources, source{tree: tree.Iter()})
		}
	}
	c.sources = append(c.sources, source{bucket: t.bucket(in).Cursor()})
	for i := range c.sources {
		c.sources[i].start(bound, down)
	}
	return c
}

// next returns the next stored row, not verified; a nil key is the end.
func (c *cursor) next() (key, row []byte) {
	for {
		var first *source
		for i := range c.sources {
			s := &c.sources[i]
			if s.key != nil && (first == nil || c.before(s.key, first.key)) {
				first = s
			}
		}
		if first == nil {
			return nil, nil
		}
		key, row = first.key, first.row
		for i := range c.sources { // older sources may have the same key
			if s := &c.sources[i]; s.key != nil && (s == first || bytes.Equal(s.key, key)) {
				s.step(c.down)
			}
		}
		if row != nil { // or else it was removed
			return key, row
		}
	}
}

func (c *cursor) before(a, b []byte) bool {
	if c.down {
		return bytes.Compare(a, b) > 0
	}
	return bytes.Compare(a, b) < 0
}

// Ascend walks the rows of a table from a key on, by key: keys and payloads. While it walks, the transaction must not
// change that table.
func (t *Tx) Ascend(in *Table, from []byte) iter.Seq2[[]byte, []byte] { return t.walk(in, from, false) }

// Descend walks the rows of a table whose keys are below a key, or all where that is nil, from the highest down, as
// [Tx.Ascend] does upwards.
func (t *Tx) Descend(in *Table, below []byte) iter.Seq2[[]byte, []byte] {
	return t.walk(in, below, true)
}

func (t *Tx) walk(in *Table, bound []byte, down bool) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, payload []byte) bool) {
		c := t.cursor(in, bound, down)
		for key, row := c.next(); key != nil; key, row = c.next() {
			if !yield(key, in.open(key, row)) {
				return
			}
		}
	}
}
