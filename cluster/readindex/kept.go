package readindex

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/cespare/xxhash/v2"
)

// keptFile holds when the state on the disk was last confirmed.
const (
	keptFile = "confirmed"
	keptLen  = 8 + 8 // nanoseconds since 1970, checksum
)

// Kept knows how old the state of a node is, also after a restart. It is used by one goroutine at a time, except Age.
type Kept struct {
	file    *os.File
	waiting Confirmation // one whose index is not on the disk yet

	started time.Time
	before  time.Duration // age of the state at the start
}

// OpenKept opens what a node keeps in its data directory. A file that is not there, or not whole, says nothing: the
// state then counts as old as the clock can say.
func OpenKept(dir string) (*Kept, error) {
	f, err := os.OpenFile(filepath.Join(dir, keptFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the file that says when the state was confirmed: %w", err)
	}
	k := &Kept{file: f, started: time.Now()}
	at := time.Unix(0, 0)
	var b [keptLen]byte
	if _, err := f.ReadAt(b[:], 0); err == nil && xxhash.Sum64(b[:8]) == binary.BigEndian.Uint64(b[8:]) {
		at = time.Unix(0, int64(binary.BigEndian.Uint64(b[:])))
	} else if err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.Join(err, f.Close())
	}
	k.before = max(k.started.Round(0).Sub(at), 0)
	return k, nil
}

// Note takes the newest confirmation, and how far the state on the disk is: what is kept is the newest that the disk
// has reached. It is written in place and not synced, for it may only be too old: after a power failure the state is
// said to be older than it is.
func (k *Kept) Note(c Confirmation, durable uint64) error {
	switch reached := k.waiting; {
	case c.Began.IsZero():
		return nil
	case c.Index <= durable:
		k.waiting = Confirmation{}
		return k.write(c.Began)
	case reached.Began.IsZero():
		k.waiting = c
	case reached.Index <= durable:
		k.waiting = c
		return k.write(reached.Began)
	}
	return nil
}

func (k *Kept) write(at time.Time) error {
	b := binary.BigEndian.AppendUint64(nil, uint64(at.UnixNano()))
	_, err := k.file.WriteAt(binary.BigEndian.AppendUint64(b, xxhash.Sum64(b)), 0)
	return err
}

// Age is how old the state here may be: the time since the newest confirmation began, or since the one that was kept
// before the start. It is never less than the truth: clocks that stood still while the machine was suspended, or were
// set back, are made up for by the other one.
func (k *Kept) Age(newest Confirmation) time.Duration {
	if newest.Began.IsZero() {
		return k.before + since(k.started)
	}
	return since(newest.Began)
}

func since(at time.Time) time.Duration {
	now := time.Now()
	return max(now.Sub(at), now.Round(0).Sub(at.Round(0)))
}

// Close closes the file.
func (k *Kept) Close() error { return k.file.Close() }
