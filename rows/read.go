package rows

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"math"
	"time"

	"coffer/damage"
)

// Summary is what verifying a whole snapshot found.
type Summary struct {
	Position Position
	Age      time.Duration // [Snapshot.Age]
	Rows     uint64
	Bytes    int64
}

// reader reads and verifies a snapshot stream.
type reader struct {
	in   *bufio.Reader
	sha  hash.Hash
	read int64
}

// ReadByte reads a byte of a number ([io.ByteReader]).
func (r *reader) ReadByte() (byte, error) {
	b, err := r.in.ReadByte()
	if err == nil {
		r.sha.Write([]byte{b})
		r.read++
	}
	return b, err
}

func (r *reader) bytes(n, limit uint64) ([]byte, error) {
	if n > limit {
		return nil, badSnapshot("a field of %d bytes", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r.in, b); err != nil {
		return nil, r.early()
	}
	r.sha.Write(b)
	r.read += int64(n)
	return b, nil
}

func (r *reader) early() error { return badSnapshot("it ends early, after %d bytes", r.read) }

func (r *reader) field(limit uint64) ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, r.early()
	}
	return r.bytes(n, limit)
}

// ReadSnapshot verifies a whole snapshot stream over tables and hands each row to keep, which may be nil, with its
// payload. Rows come before the stream's own checksum was seen, so what keep made of them counts only without an
// error.
func ReadSnapshot(in io.Reader, tables []*Table, keep func(t *Table, key, payload []byte) error) (Summary, error) {
	return readSnapshot(in, newSchema(tables), func(t *Table, key, row []byte) error {
		if keep == nil {
			return nil
		}
		return keep(t, key, row[sumLen:])
	})
}

func readSnapshot(in io.Reader, tables schema, keep func(t *Table, key, row []byte) error) (sum Summary, err error) {
	defer func() {
		if errors.Is(err, damage.Err) {
			err = badSnapshot("%v", err)
		}
	}()
	defer damage.Recover(&err, nil)
	r := &reader{in: bufio.NewReaderSize(in, 1<<16), sha: sha256.New()}
	if sum.Position, sum.Age, err = r.header(); err != nil {
		return sum, err
	}
	at := &sum.Position
	var last *Table
	var lastKey []byte
	for {
		t, key, row, err := r.record(tables)
		if err != nil {
			return sum, err
		}
		if t == nil {
			break
		}
		if last != nil && (t.Num < last.Num || t == last && bytes.Compare(key, lastKey) <= 0) {
			return sum, badSnapshot("its rows are out of order")
		}
		last, lastKey = t, key
		at.Digest += t.verify(key, row)
		at.Records += recordLen(key, row)
		sum.Rows++
		if err := keep(t, key, row); err != nil {
			return sum, err
		}
	}
	err = r.end(&sum)
	return sum, err
}

func (r *reader) header() (p Position, age time.Duration, err error) {
	begin, err := r.bytes(uint64(len(magic)), 64)
	if err != nil || !bytes.Equal(begin, magic) {
		return p, 0, badSnapshot("it does not begin as one, or is of another version of Coffer")
	}
	b, err := r.bytes(24, 24)
	if err != nil {
		return p, 0, err
	}
	p.Index, p.Term = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	if p.Index > maxIndex {
		return p, 0, badSnapshot("it claims to be of entry %d, which no log reaches", p.Index)
	}
	p.Through, p.ThroughTerm = p.Index, p.Term
	p.ConfigurationIndex = binary.BigEndian.Uint64(b[16:])
	if p.Configuration, err = r.field(maxConfiguration); err != nil {
		return p, 0, err
	}
	if len(p.Configuration) == 0 {
		p.Configuration = nil
	}
	millis, err := binary.ReadUvarint(r)
	if err != nil || millis > uint64(math.MaxInt64/time.Millisecond) {
		return p, 0, badSnapshot("its age can't be read")
	}
	return p, time.Duration(millis) * time.Millisecond, nil
}

// record reads a row; at the end there is no table.
func (r *reader) record(tables schema) (t *Table, key, row []byte, err error) {
	num, err := r.ReadByte()
	if err != nil {
		return nil, nil, nil, r.early()
	}
	if num == meta.Num {
		return nil, nil, nil, nil
	}
	if int(num) >= len(tables) || tables[num] == nil || tables[num].Local {
		return nil, nil, nil, badSnapshot("it has a table that this version of Coffer does not know")
	}
	if key, err = r.field(maxKeyLen); err != nil {
		return nil, nil, nil, err
	}
	row, err = r.field(maxRowLen)
	return tables[num], key, row, err
}

// end reads and verifies what follows the rows.
func (r *reader) end(sum *Summary) error {
	end, err := r.bytes(16, 16)
	if err != nil {
		return err
	}
	want := r.sha.Sum(nil)
	got, err := r.bytes(sha256.Size, sha256.Size)
	if err != nil {
		return err
	}
	sum.Bytes = r.read
	switch {
	case !bytes.Equal(want, got):
		return badSnapshot("it does not match its checksum")
	case binary.BigEndian.Uint64(end) != sum.Rows || binary.BigEndian.Uint64(end[8:]) != sum.Position.Digest:
		return badSnapshot("its rows do not add up to its digest")
	}
	if _, err := r.in.ReadByte(); err != io.EOF {
		return badSnapshot("something follows its end")
	}
	return nil
}
