package fsm

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// A log entry is a batch of encoded commands: one byte of format version, the xxHash64 of the rest, and a CBOR array of
// byte strings.
const (
	entryVersion = 1
	entryHeader  = 1 + 8
)

// EncodeEntry makes the log entry of a batch of encoded commands.
func EncodeEntry(commands [][]byte) []byte {
	size := entryHeader + 16
	for _, c := range commands {
		size += len(c) + 5
	}
	b := make([]byte, entryHeader, size)
	b[0] = entryVersion
	b = appendHead(b, 4<<5, len(commands)) // CBOR array
	for _, c := range commands {
		b = append(appendHead(b, 2<<5, len(c)), c...) // CBOR byte string
	}
	binary.BigEndian.PutUint64(b[1:], xxhash.Sum64(b[entryHeader:]))
	return b
}

// appendHead appends the head of a CBOR item (RFC 8949, section 3).
func appendHead(b []byte, major byte, n int) []byte {
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n < 1<<8:
		return append(b, major|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
}

// EntrySum is the checksum that a log entry carries. An entry that does not match it fails with ErrDamaged.
func EntrySum(b []byte) (uint64, error) {
	if len(b) < entryHeader {
		return 0, fmt.Errorf("%w: a log entry of %d bytes", ErrDamaged, len(b))
	}
	sum := binary.BigEndian.Uint64(b[1:])
	if xxhash.Sum64(b[entryHeader:]) != sum {
		return 0, fmt.Errorf("%w: a log entry does not match its checksum", ErrDamaged)
	}
	return sum, nil
}

// DecodeEntry is the inverse of EncodeEntry. An entry that does not match its checksum fails with ErrDamaged.
func DecodeEntry(b []byte) ([][]byte, error) {
	if _, err := EntrySum(b); err != nil {
		return nil, err
	}
	if b[0] != entryVersion {
		return nil, fmt.Errorf("%w (entry version %d)", ErrUnknownCommand, b[0])
	}
	var commands [][]byte
	if err := decoding.Unmarshal(b[entryHeader:], &commands); err != nil {
		return nil, fmt.Errorf("a log entry can't be decoded: %w", err)
	}
	return commands, nil
}
