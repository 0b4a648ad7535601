package rows

import (
	"bytes"
	"encoding/binary"

	"go.etcd.io/bbolt"
)

// Position is how far a state has come in the Raft log, and what it comes to there.
type Position struct {
	Index uint64 // of the last entry that was applied
	Term  uint64 // of that entry
	// Through is the last entry that Raft is known to have come to: those above Index up to it were none for the store,
	// such as the no-op at the beginning of a term. It is never below Index. Raft takes snapshots at such entries too.
	Through     uint64
	ThroughTerm uint64
	// Configuration is Raft's configuration as of Index, as the caller encodes it, and ConfigurationIndex the entry that
	// it is of. It is nil until one was stored.
	Configuration      []byte
	ConfigurationIndex uint64
	// Records is the size in bytes of the rows' records in a snapshot of the state.
	Records uint64
	// Digest is the sum of the checksums of all rows but local ones.
	Digest uint64
}

var positionKey = []byte("state")

const positionLen = 7 * 8 // without the configuration

// row is the position's row in the file: the digest comes last.
func (p *Position) row() []byte {
	row := make([]byte, sumLen, sumLen+positionLen+len(p.Configuration))
	row = binary.BigEndian.AppendUint64(row, p.Index)
	row = binary.BigEndian.AppendUint64(row, p.Term)
	row = binary.BigEndian.AppendUint64(row, p.Through)
	row = binary.BigEndian.AppendUint64(row, p.ThroughTerm)
	row = binary.BigEndian.AppendUint64(row, p.Records)
	row = binary.BigEndian.AppendUint64(row, p.ConfigurationIndex)
	row = append(row, p.Configuration...)
	row = binary.BigEndian.AppendUint64(row, p.Digest)
	meta.seal(positionKey, row)
	return row
}

func readPosition(tx *bbolt.Tx) Position {
	row := tx.Bucket([]byte(meta.Name)).Get(positionKey)
	if row == nil {
		panic(meta.damaged(positionKey, "is missing"))
	}
	b := meta.open(positionKey, row)
	if len(b) < positionLen {
		panic(meta.damaged(positionKey, "has the wrong length"))
	}
	p := Position{
		Index: binary.BigEndian.Uint64(b), Term: binary.BigEndian.Uint64(b[8:]),
		Through: binary.BigEndian.Uint64(b[16:]), ThroughTerm: binary.BigEndian.Uint64(b[24:]),
		Records: binary.BigEndian.Uint64(b[32:]), ConfigurationIndex: binary.BigEndian.Uint64(b[40:]),
		Digest: binary.BigEndian.Uint64(b[len(b)-8:]),
	}
	if len(b) > positionLen {
		p.Configuration = bytes.Clone(b[48 : len(b)-8])
	}
	return p
}

// same reports whether p and q are one position.
func (p *Position) same(q *Position) bool {
	return p.Index == q.Index && p.Term == q.Term && p.Through == q.Through && p.Digest == q.Digest
}
