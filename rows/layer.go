package rows

import (
	"time"

	"github.com/tidwall/btree"
)

// tree holds a layer's rows of one table by key; a nil row is one that was removed.
type tree = btree.Map[string, []byte]

// degree of the trees: small nodes, since each batch copies those that it changes (docs/decisions/015-rows.md).
const degree = 16

// layer holds rows that are applied and may not be in the file yet. It is immutable once it can be seen by others:
// whoever changes it changes a copy, which shares the nodes of its trees until they differ.
type layer struct {
	trees []*tree   // by table number; nil where there is nothing
	own   uint64    // bit n: the tree of table n was copied for this layer and may be changed
	bytes int       // of keys and rows
	since time.Time // when its first row came
}

func newLayer(tables int) *layer { return &layer{trees: make([]*tree, tables)} }

func (l *layer) copy() *layer {
	c := &layer{trees: make([]*tree, len(l.trees)), bytes: l.bytes, since: l.since}
	copy(c.trees, l.trees)
	l.own = 0 // what they share now belongs to neither
	return c
}

// get returns the layer's row of key, nil if it was removed, and whether the layer says anything of it.
func (l *layer) get(table byte, key string) (row []byte, here bool) {
	t := l.trees[table]
	if t == nil {
		return nil, false
	}
	return t.Get(key)
}

// set changes the layer: only before others see it.
func (l *layer) set(in *Table, key string, row []byte) {
	if l.empty() {
		l.since = time.Now()
	}
	table := in.Num
	t := l.trees[table]
	switch {
	case t == nil:
		t = btree.NewMap[string, []byte](degree)
		l.trees[table] = t
	case l.own&(1<<table) == 0:
		t = t.Copy()
		l.trees[table] = t
	}
	l.own |= 1 << table
	put := t.Set
	if in.Ascending {
		put = t.Load // faster where the key is above all others
	}
	old, replaced := put(key, row)
	l.bytes += len(row) - len(old)
	if !replaced {
		l.bytes += len(key)
	}
}

func (l *layer) empty() bool { return l.bytes == 0 }

// over returns a layer that says what l says, and what under says where l says nothing.
func (l *layer) over(under *layer, tables schema) *layer {
	if under.empty() {
		return l
	}
	merged := under.copy()
	for n, t := range l.trees {
		if t != nil {
			t.Scan(func(key string, row []byte) bool {
				merged.set(tables[n], key, row)
				return true
			})
		}
	}
	return merged
}
