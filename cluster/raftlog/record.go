package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cespare/xxhash/v2"
	"github.com/fxamacker/cbor/v2"

	"coffer/damage"
	"coffer/durable"
)

// StateFile is the name of the record's file in a data directory. It holds two copies of copySize bytes each:
//
//	sum      8 bytes, xxhash64 of all that follows
//	number   8 bytes, of the write that it is of
//	length   2 bytes
//	CBOR     of survives, then zeros
//
// A write is finished when both copies are synced, one after the other. So the one that a crash tears, or that a disk
// loses, is never all that is left of what Raft was promised; writing the copies in turn would leave an older term
// there.
const StateFile = "raft-state"

const (
	copySize = 4096 // a page of the cache, so that neither copy is written along with the other
	copyHead = 18
)

// survives is what a node must know of itself after any crash, besides its log.
type survives struct {
	Term      uint64          `cbor:"1,keyasint"`           // the highest that was seen
	VoteTerm  uint64          `cbor:"2,keyasint"`           // the last that this node voted in
	Vote      cbor.ByteString `cbor:"3,keyasint,omitempty"` // for whom
	ClusterID cbor.ByteString `cbor:"4,keyasint,omitempty"`
	Promised  cbor.ByteString `cbor:"5,keyasint,omitempty"`
	Last      uint64          `cbor:"6,keyasint"`           // the log reached at least this entry: its loss is noticed
	Recovered uint64          `cbor:"7,keyasint,omitempty"` // the entry that Recover appends, while there is more to do
}

// record keeps survives in its file, which is locked against other processes while it is open.
type record struct {
	file   *os.File
	number uint64
	survives
}

// first is the number of the write that makes a file.
const first = 1

func (s survives) seal(number uint64) ([]byte, error) {
	payload, err := cbor.Marshal(s)
	if err != nil {
		return nil, err
	}
	if len(payload) > copySize-copyHead {
		return nil, fmt.Errorf("%d bytes to keep beside the Raft log: there is room for %d", len(payload), copySize-copyHead)
	}
	b := make([]byte, copySize)
	binary.BigEndian.PutUint64(b[8:], number)
	binary.BigEndian.PutUint16(b[16:], uint16(len(payload)))
	copy(b[copyHead:], payload)
	binary.BigEndian.PutUint64(b, xxhash.Sum64(b[8:]))
	return b, nil
}

// unseal reads one copy. It reports whether it is whole.
func unseal(b []byte) (s survives, number uint64, whole bool) {
	if len(b) != copySize || binary.BigEndian.Uint64(b) != xxhash.Sum64(b[8:]) {
		return s, 0, false
	}
	length := int(binary.BigEndian.Uint16(b[16:]))
	if length > copySize-copyHead || cbor.Unmarshal(b[copyHead:copyHead+length], &s) != nil {
		return s, 0, false
	}
	return s, binary.BigEndian.Uint64(b[8:]), true
}

func createRecord(path string) error {
	temp := path + ".new"
	b, err := survives{}.seal(first)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, b...)) // the blocks are written here, and never again needed anew
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return durable.Install(temp, path)
}

// openRecord opens the record of directory dir. fresh says that none is expected, so that it may be made.
func openRecord(dir string, fresh bool) (*record, error) {
	path := filepath.Join(dir, StateFile)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if !fresh {
			return nil, fmt.Errorf("%w: the file %s with this node's term and vote is missing", damage.Err, StateFile)
		}
		if err := createRecord(path); err != nil {
			return nil, err
		}
		f, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, err
	}
	r := &record{file: f}
	if err := lock(f); err != nil {
		err = fmt.Errorf("the data directory is in use by another process: stop that one first (%w)", err)
		return nil, errors.Join(err, f.Close())
	}
	return r, nil
}

// load reads the copies, and writes one anew that is not what the other is. It reports whether it had to.
func (r *record) load() (mended bool, err error) {
	whole, behind := 0, false
	for at := range int64(2) {
		b := make([]byte, copySize)
		n, _ := r.file.ReadAt(b, at*copySize) // a copy that can't be read is not whole
		s, number, ok := unseal(b[:n])
		if !ok {
			behind = true
			continue
		}
		whole++
		behind = behind || whole == 2 && number != r.number
		if number > r.number {
			r.number, r.survives = number, s
		}
	}
	if whole == 0 {
		return false, fmt.Errorf("%w: neither copy of the term and vote in %s matches its checksum", damage.Err, StateFile)
	}
	if !behind {
		return false, nil
	}
	return true, r.put(r.number, r.survives)
}

// keep makes s survive. When it fails, either may.
func (r *record) keep(s survives) error {
	if err := r.put(r.number+1, s); err != nil {
		return err
	}
	r.number, r.survives = r.number+1, s
	return nil
}

func (r *record) put(number uint64, s survives) error {
	b, err := s.seal(number)
	if err != nil {
		return err
	}
	for at := range int64(2) {
		if _, err := r.file.WriteAt(b, at*copySize); err != nil {
			return err
		}
		if err := syncData(r.file); err != nil {
			return &fs.PathError{Op: "fdatasync", Path: StateFile, Err: err}
		}
	}
	return nil
}
