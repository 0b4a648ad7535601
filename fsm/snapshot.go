package fsm

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"runtime/debug"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"

	"coffer/durable"
)

// A snapshot, and an archive of `coffer snapshot save`, is a stream:
//
//	magic      8 bytes "COFFER\x00\x01"
//	header     uvarint length, CBOR of Header
//	rows       for each: table (1 byte, not 0), uvarint length, key, uvarint length, row with its checksum;
//	           ascending by table and key
//	end        a zero byte, number of rows (8 bytes), digest (8 bytes), SHA-256 of everything before
//
// Values in it are sealed exactly as they are in the store.
var snapshotMagic = []byte("COFFER\x00\x01")

// Header says what a snapshot is of.
type Header struct {
	Cluster Cluster `cbor:"1,keyasint"`
	Index   uint64  `cbor:"2,keyasint"`
	Term    uint64  `cbor:"3,keyasint"`
}

// Summary is what verifying a whole snapshot found.
type Summary struct {
	Header  Header
	Rows    uint64
	Secrets uint64
	Values  uint64
	// Proposals are rows of what was proposed, which snapshots of a region's own have, and archives have not.
	Proposals uint64
	Digest    uint64
	Bytes     int64
}

// ErrBadSnapshot says that a stream is not a whole, undamaged snapshot.
var ErrBadSnapshot = errors.New("this is not a whole, undamaged snapshot")

func badSnapshot(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBadSnapshot, fmt.Sprintf(format, args...))
}

const (
	maxKeyLen = 4 << 10
	maxRowLen = 1 << 20
)

// snapshot is a raft.FSMSnapshot: a read transaction that Persist streams while writes go on.
type snapshot struct {
	store *Store
	tx    *Tx
	st    state
}

// Snapshot begins a snapshot of the state as it is now.
func (s *Store) Snapshot() (raft.FSMSnapshot, error) { return s.begin() }

func (s *Store) begin() (*snapshot, error) {
	if err := s.damaged.Load(); err != nil {
		return nil, *err
	}
	if err := s.Flush(); err != nil {
		return nil, err
	}
	s.swap.RLock()
	tx, err := s.db.Begin(false)
	if err != nil {
		s.swap.RUnlock()
		return nil, err
	}
	snap := &snapshot{store: s, tx: &Tx{tx: tx}}
	if err := snap.guard(func() error { snap.st = readState(tx); return nil }); err != nil {
		snap.Release()
		return nil, err
	}
	return snap, nil
}

func (n *snapshot) guard(do func() error) (err error) {
	defer func() {
		if errors.Is(err, ErrDamaged) {
			n.store.fail(err)
		}
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer recoverDamage(&err)
	return do()
}

// Persist streams the snapshot to a sink.
func (n *snapshot) Persist(sink raft.SnapshotSink) error {
	if err := n.write(sink, false); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// Release ends the snapshot's transaction.
func (n *snapshot) Release() {
	_ = n.tx.tx.Rollback()
	n.store.swap.RUnlock()
}

// Save streams an archive of the state as it is now to w, while writes go on: a snapshot without what was proposed, since
// the commands of the log that it came from mean nothing in the one that it will be restored to.
func (s *Store) Save(w io.Writer) error {
	n, err := s.begin()
	if err != nil {
		return err
	}
	defer n.Release()
	return n.write(w, true)
}

func (n *snapshot) write(w io.Writer, archive bool) error {
	return n.guard(func() error {
		sha := sha256.New()
		out := bufio.NewWriterSize(io.MultiWriter(w, sha), 1<<16)
		cluster, _ := n.tx.Cluster()
		header := encode(Header{Cluster: cluster, Index: n.st.index, Term: n.st.term})
		_, _ = out.Write(snapshotMagic)
		_, _ = out.Write(binary.AppendUvarint(nil, uint64(len(header))))
		_, _ = out.Write(header)
		rows, digest := uint64(0), n.st.digest
		var head []byte
		for t := tableMeta + 1; t < tables; t++ {
			c := n.tx.bucket(t).Cursor()
			for k, row := c.First(); k != nil; k, row = c.Next() {
				if archive && t == tableProposals {
					digest -= storedSum(t, k, row)
					continue
				}
				t.open(k, row)
				rows++
				head = binary.AppendUvarint(append(head[:0], byte(t)), uint64(len(k)))
				head = binary.AppendUvarint(append(head, k...), uint64(len(row)))
				_, _ = out.Write(head)
				if _, err := out.Write(row); err != nil {
					return err
				}
			}
		}
		head = binary.BigEndian.AppendUint64(append(head[:0], 0), rows)
		_, _ = out.Write(binary.BigEndian.AppendUint64(head, digest))
		if err := out.Flush(); err != nil {
			return err
		}
		_, err := w.Write(sha.Sum(nil))
		return err
	})
}

// snapshotReader reads and verifies a snapshot stream.
type snapshotReader struct {
	in   *bufio.Reader
	sha  hash.Hash
	read int64
}

func (r *snapshotReader) ReadByte() (byte, error) {
	b, err := r.in.ReadByte()
	if err == nil {
		r.sha.Write([]byte{b})
		r.read++
	}
	return b, err
}

func (r *snapshotReader) bytes(n uint64, limit uint64) ([]byte, error) {
	if n > limit {
		return nil, badSnapshot("a field of %d bytes", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r.in, b); err != nil {
		return nil, badSnapshot("it ends early, after %d bytes", r.read)
	}
	r.sha.Write(b)
	r.read += int64(n)
	return b, nil
}

func (r *snapshotReader) field(limit uint64) ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, badSnapshot("it ends early, after %d bytes", r.read)
	}
	return r.bytes(n, limit)
}

// ReadSnapshot verifies a whole snapshot stream and hands each row to keep, which may be nil. Rows
// come before the stream's own checksum was seen, so what keep made of them counts only without an error.
func ReadSnapshot(in io.Reader, keep func(h Header, table byte, key, row []byte) error) (sum Summary, err error) {
	defer func() {
		if errors.Is(err, ErrDamaged) {
			err = badSnapshot("%v", err)
		}
	}()
	defer recoverDamage(&err)
	r := &snapshotReader{in: bufio.NewReaderSize(in, 1<<16), sha: sha256.New()}
	magic, err := r.bytes(uint64(len(snapshotMagic)), 64)
	if err != nil || !bytes.Equal(magic, snapshotMagic) {
		return sum, badSnapshot("it does not begin as one")
	}
	header, err := r.field(maxRowLen)
	if err != nil {
		return sum, err
	}
	if err := decoding.Unmarshal(header, &sum.Header); err != nil {
		return sum, badSnapshot("its header can't be decoded")
	}
	if f := sum.Header.Cluster.Format; f == 0 { // not formed yet
	} else if err := Formats().Check(f); err != nil {
		return sum, badSnapshot("%v", err)
	}
	digest := uint64(0)
	var lastTable table
	var lastKey []byte
	for {
		b, err := r.ReadByte()
		if err != nil {
			return sum, badSnapshot("it ends early, after %d bytes", r.read)
		}
		t := table(b)
		if t == tableMeta {
			break
		}
		if t >= tables {
			return sum, badSnapshot("it has a table of a newer version of Coffer")
		}
		key, err := r.field(maxKeyLen)
		if err != nil {
			return sum, err
		}
		row, err := r.field(maxRowLen)
		if err != nil {
			return sum, err
		}
		if t < lastTable || t == lastTable && bytes.Compare(key, lastKey) <= 0 {
			return sum, badSnapshot("its rows are out of order")
		}
		lastTable, lastKey = t, key
		digest += t.sum(key, t.open(key, row))
		sum.Rows++
		switch t {
		case tableSecrets:
			sum.Secrets++
		case tableValues:
			sum.Values++
		case tableProposals:
			sum.Proposals++
		}
		if keep != nil {
			if err := keep(sum.Header, b, key, row); err != nil {
				return sum, err
			}
		}
	}
	end, err := r.bytes(16, 16)
	if err != nil {
		return sum, err
	}
	want := r.sha.Sum(nil)
	got, err := r.bytes(sha256.Size, sha256.Size)
	if err != nil {
		return sum, err
	}
	sum.Digest, sum.Bytes = binary.BigEndian.Uint64(end[8:]), r.read
	switch {
	case !bytes.Equal(want, got):
		return sum, badSnapshot("it does not match its checksum")
	case binary.BigEndian.Uint64(end) != sum.Rows || sum.Digest != digest:
		return sum, badSnapshot("its rows do not add up to its digest")
	}
	if _, err := r.in.ReadByte(); err != io.EOF {
		return sum, badSnapshot("something follows its end")
	}
	return sum, nil
}

// Restore replaces the whole state by a snapshot: into a new file, verified and synced, then swapped in.
// A snapshot that does not verify changes nothing.
func (s *Store) Restore(in io.ReadCloser) error {
	defer in.Close()
	temp := s.path + ".restore"
	if err := os.RemoveAll(temp); err != nil {
		return err
	}
	st, err := buildDB(temp, in)
	if err != nil {
		return errors.Join(err, os.RemoveAll(temp))
	}
	s.flushMu.Lock() // a flush of the old state would write it into the new file
	defer s.flushMu.Unlock()
	s.swap.Lock()
	defer s.swap.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active, s.flushing, s.proposals = newLayer(), nil, nil
	if err := s.db.Close(); err != nil {
		return err
	}
	installErr := durable.Install(temp, s.path)
	if s.db, _, err = openDB(s.path); err != nil || installErr != nil {
		return errors.Join(installErr, err)
	}
	s.moveTo(st)
	return nil
}

// rowsPerTx bounds the memory of building a store from a snapshot.
const rowsPerTx = 5_000

func buildDB(path string, in io.Reader) (st state, err error) {
	db, err := newDB(path)
	if err != nil {
		return st, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.NoSync = true
	var tx *bbolt.Tx
	defer func() {
		if tx != nil {
			_ = tx.Rollback()
		}
	}()
	pending := 0
	sum, err := ReadSnapshot(in, func(_ Header, t byte, key, row []byte) (err error) {
		if pending%rowsPerTx == 0 {
			if tx != nil {
				if err := tx.Commit(); err != nil {
					return err
				}
			}
			if tx, err = db.Begin(true); err != nil {
				return err
			}
		}
		pending++
		b := tx.Bucket(tableNames[t])
		b.FillPercent = 0.9 // keys come in order
		return b.Put(key, row)
	})
	if err != nil {
		return st, err
	}
	if tx == nil {
		if tx, err = db.Begin(true); err != nil {
			return st, err
		}
	}
	st = state{index: sum.Header.Index, term: sum.Header.Term, digest: sum.Digest}
	if err := tx.Bucket(tableNames[tableMeta]).Put(stateKey, st.row()); err != nil {
		return st, err
	}
	if err := tx.Commit(); err != nil {
		return st, err
	}
	tx = nil
	return st, db.Sync()
}
