package fsm

import (
	"encoding/binary"
	"errors"
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

// DecodeEntry is the inverse of EncodeEntry: what EncodeEntry does not make, it does not take. An entry that does not
// match its checksum fails with ErrDamaged. The commands are parts of b.
func DecodeEntry(b []byte) ([][]byte, error) {
	if _, err := EntrySum(b); err != nil {
		return nil, err
	}
	if b[0] != entryVersion {
		return nil, fmt.Errorf("%w (entry version %d)", ErrUnknownCommand, b[0])
	}
	count, rest, ok := cutHead(b[entryHeader:], 4<<5)
	if !ok || count > len(rest) {
		return nil, errors.New("a log entry is no batch of commands")
	}
	commands := make([][]byte, count)
	for i := range commands {
		var length int
		if length, rest, ok = cutHead(rest, 2<<5); !ok || length > len(rest) {
			return nil, fmt.Errorf("command %d of a log entry does not end in it", i)
		}
		commands[i], rest = rest[:length:length], rest[length:]
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("a log entry has %d bytes behind its commands", len(rest))
	}
	return commands, nil
}

// cutHead is the inverse of appendHead: it takes the head of a CBOR item of a major type, in its shortest form, from b.
func cutHead(b []byte, major byte) (n int, rest []byte, ok bool) {
	if len(b) == 0 || b[0]&0xe0 != major {
		return 0, nil, false
	}
	switch low := b[0] &^ 0xe0; {
	case low < 24:
		return int(low), b[1:], true
	case low == 24 && len(b) >= 2:
		n, rest = int(b[1]), b[2:]
		return n, rest, n >= 24
	case low == 25 && len(b) >= 3:
		n, rest = int(binary.BigEndian.Uint16(b[1:])), b[3:]
		return n, rest, n >= 1<<8
	case low == 26 && len(b) >= 5:
		n, rest = int(binary.BigEndian.Uint32(b[1:])), b[5:]
		return n, rest, n >= 1<<16
	}
	return 0, nil, false
}
