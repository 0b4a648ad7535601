package rows

import (
	"bytes"

	"go.etcd.io/bbolt"
)

// Tx is a transaction over one state. Its methods verify what they read; damage ends the transaction. What they return is
// valid until the transaction ends and must not be changed.
type Tx struct {
	store   *Store
	picture *picture
	layers  []*layer // newest first, each newer than tx
	tx      *bbolt.Tx
	buckets []*bbolt.Bucket // those that were used, by table number
	cache   *cache          // of decoded rows; nil in a writing transaction
	memo    map[*byte]any   // decoded rows by the beginning of their payload; nil in a read transaction
}

func (t *Tx) bucket(in *Table) *bbolt.Bucket {
	if t.buckets[in.Num] == nil {
		t.buckets[in.Num] = t.tx.Bucket([]byte(in.Name))
	}
	return t.buckets[in.Num]
}

// find returns the stored row of key, nil if there is none, and whether a layer says so.
func (t *Tx) find(in *Table, key []byte) (row []byte, layered bool) {
	for _, l := range t.layers {
		if row, here := l.get(in.Num, string(key)); here {
			return row, true
		}
	}
	return t.bucket(in).Get(key), false
}

// Get returns the payload of key's row, nil if there is none. Where there is none its neighbours are verified, so that a row
// whose key was damaged is not taken for one that never was.
func (t *Tx) Get(in *Table, key []byte) []byte {
	row, layered := t.find(in, key)
	if row == nil {
		if !layered {
			t.verifyNeighbours(in, key)
		}
		return nil
	}
	return in.open(key, row)
}

// Has reports whether key has a row.
func (t *Tx) Has(in *Table, key []byte) bool {
	row, _ := t.find(in, key)
	return row != nil
}

// verifyNeighbours verifies the rows on both sides of a key that was not found, and that the key belongs between them: a
// damaged page above would have led elsewhere.
func (t *Tx) verifyNeighbours(in *Table, key []byte) {
	c := t.bucket(in).Cursor()
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
