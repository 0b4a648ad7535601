package rows

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"

	"coffer/damage"
)

// Table is a set of rows with keys of their own order.
type Table struct {
	// Num is part of the rows' checksums and of snapshots: it is never reused. 0 is the engine's own.
	Num byte
	// Name is that of the table's bucket in the file.
	Name string
	// Local rows are this node's own: they are in no digest and in no snapshot.
	Local bool
	// Unarchived rows belong to the log that the state came from: an archive has none ([Store.Save]).
	Unarchived bool
	// Ascending says that most rows come in the order of their keys: then pages are filled.
	Ascending bool
	// Watched rows are told to [Options.Changed].
	Watched bool
	// Derive is called in the writing transaction for each row that is put or removed: it keeps up what follows from the
	// table's rows, such as an index. old and new are payloads, nil where there is no row. It may be nil.
	Derive func(w *Writer, key, old, new []byte)
}

// meta is the engine's own table: it holds the position.
var meta = &Table{Name: "meta", Local: true}

// schema are the tables of a store by number; nil where a number has none.
type schema []*Table

const maxTables = 64

func newSchema(tables []*Table) schema {
	s := schema{meta}
	for _, t := range tables {
		if t.Num >= maxTables {
			panic(fmt.Sprintf("table %s has a number above %d", t.Name, maxTables-1)) // of the program's own
		}
		s = append(s, make(schema, max(0, int(t.Num)+1-len(s)))...)
		if s[t.Num] != nil {
			panic(fmt.Sprintf("tables %s and %s have the same number", s[t.Num].Name, t.Name)) // of the program's own
		}
		s[t.Num] = t
	}
	return s
}

// replicated are the tables that are in the digest and in snapshots, by number.
func (s schema) replicated() []*Table {
	return slices.DeleteFunc(slices.Clone(s), func(t *Table) bool { return t == nil || t.Local })
}

func (t *Table) damaged(key []byte, what string) damage.Found {
	return damage.Found(fmt.Sprintf("row %x of table %s %s", key, t.Name, what))
}

// ErrContradiction says that rows contradict each other though each is what was written: a mistake in the code, which
// all nodes of a region make alike, and not damage.
var ErrContradiction = errors.New("the state contradicts itself")

// ErrTooLarge says that a row, or its key, is larger than a snapshot could hold. Nothing of the batch is kept; without
// what wrote the row it can be tried again.
var ErrTooLarge = errors.New("a row is too large to be stored")

// tooLarge is panicked with and becomes an error at the edge of the transaction.
type tooLarge string

// contradiction is panicked with and becomes an error at the edge of the transaction.
type contradiction string

// Contradicts ends the transaction with [ErrContradiction], or with [damage.Err] if a scrub then finds damage: a row
// that another one speaks of may be missing because a page was lost. what says what is wrong with the row of key.
func (t *Table) Contradicts(key []byte, what string) {
	panic(contradiction(fmt.Sprintf("row %x of table %s %s", key, t.Name, what)))
}

const sumLen = 8

// sum is the checksum of a row, bound to its place.
func (t *Table) sum(key, payload []byte) uint64 {
	var d xxhash.Digest
	d.Reset()
	var head [1 + binary.MaxVarintLen64]byte
	head[0] = t.Num
	n := binary.PutUvarint(head[1:], uint64(len(key)))
	_, _ = d.Write(head[:1+n])
	_, _ = d.Write(key)
	_, _ = d.Write(payload)
	return d.Sum64()
}

// seal writes the checksum of row's payload before it.
func (t *Table) seal(key, row []byte) {
	binary.BigEndian.PutUint64(row, t.sum(key, row[sumLen:]))
}

// open verifies a stored row and returns its payload.
func (t *Table) open(key, row []byte) []byte {
	t.verify(key, row)
	return row[sumLen:]
}

// verify verifies a stored row and returns its checksum.
func (t *Table) verify(key, row []byte) uint64 {
	if len(row) < sumLen || t.sum(key, row[sumLen:]) != binary.BigEndian.Uint64(row) {
		panic(t.damaged(key, "does not match its checksum"))
	}
	return binary.BigEndian.Uint64(row)
}
