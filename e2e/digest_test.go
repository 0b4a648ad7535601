package e2e_test

import (
	bigendian "encoding/binary"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// stateRowWithOtherDigest makes a state row with another digest and a right checksum: xxHash64 of the table
// (0), the key's length, the key and the payload.
func stateRowWithOtherDigest(row []byte) []byte {
	row = slices.Clone(row)
	row[len(row)-1] ^= 1
	sum := xxhash.Sum64(append([]byte("\x00\x05state"), row[8:]...))
	bigendian.BigEndian.PutUint64(row, sum)
	return row
}
