package e2e_test

import (
	bigendian "encoding/binary"
	"slices"

	"github.com/cespare/xxhash/v2"
	"go.etcd.io/bbolt"
)

// sealRow gives a row the right checksum: xxHash64 of the table's number, the key's length, the key and the payload.
func sealRow(table byte, key, row []byte) uint64 {
	head := bigendian.AppendUvarint([]byte{table}, uint64(len(key)))
	sum := xxhash.Sum64(slices.Concat(head, key, row[8:]))
	bigendian.BigEndian.PutUint64(row, sum)
	return sum
}

// divert changes a value in a state file as if the node had applied another entry than the others: every row has the
// right checksum, and the digest is that of the rows.
func divert(tx *bbolt.Tx) error {
	values, meta := tx.Bucket([]byte("values")), tx.Bucket([]byte("meta"))
	key, row := values.Cursor().First()
	key, row = slices.Clone(key), slices.Clone(row)
	before := bigendian.BigEndian.Uint64(row)
	row[len(row)-1] ^= 1
	after := sealRow(3, key, row)
	if err := values.Put(key, row); err != nil {
		return err
	}
	position := slices.Clone(meta.Get([]byte("state"))) // the digest comes last
	digest := position[len(position)-8:]
	bigendian.BigEndian.PutUint64(digest, bigendian.BigEndian.Uint64(digest)-before+after)
	sealRow(0, []byte("state"), position)
	return meta.Put([]byte("state"), position)
}
