package rows

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"
)

// A snapshot is a stream:
//
//	magic      8 bytes "COFFER\x00\x02"
//	header     index, term and configuration's index (8 bytes each), uvarint length, configuration, uvarint age
//	           (milliseconds: Snapshot.Age)
//	rows       for each: table (1 byte, not 0), uvarint length, key, uvarint length, row with its checksum;
//	           ascending by table and key
//	end        a zero byte, number of rows (8 bytes), digest (8 bytes), SHA-256 of everything before
var magic = []byte("COFFER\x00\x02")

const (
	maxConfiguration = 1 << 20
	maxIndex         = 1 << 40 // a million entries a second for twelve days; beyond it indexes could overflow
	maxKeyLen        = 4 << 10
	maxRowLen        = 1 << 20
	endLen           = 1 + 8 + 8 + sha256.Size
)

func (n *Snapshot) header() []byte {
	p := &n.Position
	b := binary.BigEndian.AppendUint64(bytes.Clone(magic), p.Index)
	b = binary.BigEndian.AppendUint64(b, p.Term)
	b = binary.BigEndian.AppendUint64(b, p.ConfigurationIndex)
	b = binary.AppendUvarint(b, uint64(len(p.Configuration)))
	b = append(b, p.Configuration...)
	return binary.AppendUvarint(b, uint64(n.Age.Milliseconds()))
}

func appendRecord(b []byte, table byte, key, row []byte) []byte {
	b = append(binary.AppendUvarint(append(b, table), uint64(len(key))), key...)
	return append(binary.AppendUvarint(b, uint64(len(row))), row...)
}

// recordLen is the length of a row's record.
func recordLen(key, row []byte) uint64 {
	return uint64(1 + uvarintLen(len(key)) + len(key) + uvarintLen(len(row)) + len(row))
}

func uvarintLen(n int) (length int) {
	for length = 1; n >= 0x80; length++ {
		n >>= 7
	}
	return length
}

// Snapshot is one state of a store as a stream that is read from the store itself, while writes go on: nothing is
// copied before it is read. Until it is closed it keeps the pages of that state in the file, which may grow
// meanwhile, and a restore waits for no snapshot. It is used by one goroutine at a time.
type Snapshot struct {
	// Position is what the stream holds. All of it can be read from the log, or from the file, after a crash only as far
	// as [Store.Durable] says.
	Position Position
	// Age is for a state of which nobody could tell whether it is the latest: how long before it had last been known
	// to be. It is 0 for a state that was confirmed, has whole milliseconds, and may be set before the stream is read.
	Age time.Duration

	store  *Store
	tx     *Tx
	omit   bool     // rows that are not archived
	digest uint64   // that the stream ends with
	buf    []byte   // the part of the stream that was made last
	unread []byte   // what is left of it
	tables []*Table // to come
	cursor *cursor  // over the first of them; nil before its beginning
	begun  bool
	rows   uint64
	sha    hash.Hash
}

// Snapshot opens a snapshot of the state as it is now, in memory or in the file. It has to be closed.
func (s *Store) Snapshot() (*Snapshot, error) {
	if err := load(&s.damaged); err != nil {
		return nil, err
	}
	t, err := s.begin()
	if err != nil {
		return nil, err
	}
	at := t.picture.position
	return &Snapshot{
		Position: at, store: s, tx: t, digest: at.Digest, tables: s.schema.replicated(), sha: sha256.New(),
	}, nil
}

// Size is the exact length of the stream in bytes.
func (n *Snapshot) Size() int64 {
	return int64(len(n.header())) + int64(n.Position.Records) + endLen
}

// chunk is how much of the stream is made at once.
const chunk = 64 << 10

// Read reads the stream ([io.Reader]).
func (n *Snapshot) Read(b []byte) (int, error) {
	if len(n.unread) == 0 {
		if n.tables == nil {
			return 0, io.EOF
		}
		if n.tx.tx == nil {
			return 0, ErrClosed
		}
		if err := n.store.found(n.tx.picture.file.guard(n.fill)); err != nil {
			return 0, err
		}
	}
	read := copy(b, n.unread)
	n.unread = n.unread[read:]
	return read, nil
}

// fill makes the next part of the stream: at the end n.tables is nil.
func (n *Snapshot) fill() error {
	n.buf = n.buf[:0]
	if !n.begun {
		n.begun, n.buf = true, append(n.buf, n.header()...)
	}
	for len(n.buf) < chunk && len(n.tables) > 0 {
		table := n.tables[0]
		if n.cursor == nil {
			n.cursor = n.tx.cursor(table, nil, false)
		}
		key, row := n.cursor.next()
		if key == nil {
			n.cursor, n.tables = nil, n.tables[1:]
			continue
		}
		if sum := table.verify(key, row); n.omit && table.Unarchived {
			n.digest -= sum
			continue
		}
		n.rows++
		n.buf = appendRecord(n.buf, table.Num, key, row)
	}
	if len(n.tables) == 0 {
		n.tables = nil
		n.buf = binary.BigEndian.AppendUint64(append(n.buf, 0), n.rows)
		n.buf = binary.BigEndian.AppendUint64(n.buf, n.digest)
	}
	n.sha.Write(n.buf)
	if n.tables == nil {
		n.buf = n.sha.Sum(n.buf)
	}
	n.unread = n.buf
	return nil
}

// Close ends the snapshot. Closing it again does nothing.
func (n *Snapshot) Close() error {
	n.tx.end()
	return nil
}

// Save writes an archive of the state as it is now to w, while writes go on: a snapshot without the rows that are not
// archived.
func (s *Store) Save(w io.Writer) error { return s.SaveStale(w, 0) }

// SaveStale is Save of a state that is perhaps not the latest ([Snapshot.Age]).
func (s *Store) SaveStale(w io.Writer, age time.Duration) error {
	n, err := s.Snapshot()
	if err != nil {
		return err
	}
	defer n.Close()
	n.omit, n.Age = true, age
	_, err = io.Copy(w, n)
	return err
}

// ErrBadSnapshot says that a stream is not a whole, undamaged snapshot.
var ErrBadSnapshot = errors.New("this is not a whole, undamaged snapshot")

func badSnapshot(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBadSnapshot, fmt.Sprintf(format, args...))
}
