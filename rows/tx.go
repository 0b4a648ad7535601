package rows

import (
	"bytes"

	"go.etcd.io/bbolt"
)

// Tx is a transaction over one state. Its methods verify what they read; damage ends the transaction. What they
// return is valid until the transaction ends and must not be changed.
type Tx struct {
	store   *Store
	picture *picture
	layers  []*layer // newest first, each newer than tx
	tx      *bbolt.Tx
	buckets []*bbolt.Bucket // those that were used, by table number
	finders []*bbolt.Cursor // for single rows, by table number: a cursor that is used again allocates nothing
	found   []found         // the row that was last looked for, by table number
	cache   *cache          // of decoded rows; nil in a writing transaction
	memo    map[*byte]any   // decoded rows by the beginning of their payload; nil in a read transaction
}

func (t *Tx) bucket(in *Table) *bbolt.Bucket {
	if t.buckets[in.Num] == nil {
		t.buckets[in.Num] = t.tx.Bucket([]byte(in.Name))
	}
	return t.buckets[in.Num]
}

// found is where a row was found, or that it was not. Rows are looked for again at once: to be read and then
// replaced, or, like keys, by one command after another.
type found struct {
	key     string // empty: nothing was looked for
	row     []byte // nil: there is none
	layered bool   // a layer says so
}

// find looks for the stored row of key.
func (t *Tx) find(in *Table, key []byte) found {
	last := &t.found[in.Num]
	if last.key == string(key) && last.key != "" {
		return *last
	}
	at := found{key: string(key)}
	for _, l := range t.layers {
		if at.row, at.layered = l.get(in.Num, at.key); at.layered {
			*last = at
			return at
		}
	}
	if k, row := t.finder(in).Seek(key); bytes.Equal(k, key) {
		at.row = row
	}
	*last = at
	return at
}

func (t *Tx) finder(in *Table) *bbolt.Cursor {
	if t.finders[in.Num] == nil {
		t.finders[in.Num] = t.bucket(in).Cursor()
	}
	return t.finders[in.Num]
}

// Get returns the payload of key's row, nil if there is none. Where there is none its neighbours are verified, so
// that a row whose key was damaged is not taken for one that never was.
func (t *Tx) Get(in *Table, key []byte) []byte {
	at := t.find(in, key)
	if at.row == nil {
		if !at.layered {
			t.verifyNeighbours(in, key)
		}
		return nil
	}
	return in.open(key, at.row)
}

// Has reports whether key has a row.
func (t *Tx) Has(in *Table, key []byte) bool {
	return t.find(in, key).row != nil
}

// verifyNeighbours verifies the rows on both sides of a key that was not found, and that the key belongs between
// them: a damaged page above would have led elsewhere.
func (t *Tx) verifyNeighbours(in *Table, key []byte) {
	c := t.finder(in)
	if k, row := c.Seek(key); k != nil {
		in.open(k, row)
		if bytes.Compare(k, key) <= 0 {
			panic(in.damaged(key, "is looked for in the wrong place"))
		}
	}
	if k, row := c.Prev(); k != nil {
		in.open(k, row)
		if bytes.Compare(k, key) >= 0 {
			panic(in.damaged(key, "is looked for in the wrong place"))
		}
	}
}
