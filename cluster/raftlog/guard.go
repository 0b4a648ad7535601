package raftlog

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"coffer/damage"
)

// Options of a log.
type Options struct {
	Log *slog.Logger
	// Used says that the directory holds state already: a log that is missing is damage then, not a beginning.
	Used bool
	// OnDamage is called once, with what is damaged ([damage.Err]), as soon as it is found. Nothing is read or written
	// after.
	OnDamage func(error)
	// OnFatal is called once, with a write that failed. What of it is on the disk is unknown, so the process must end at
	// once and start from what is there; the data is not damaged.
	OnFatal func(error)
	// OnHung is called once, in a goroutine of its own, when a write has been under way for HungAfter. Raft waits inside
	// that write and can't step down, so the process must go out of the others' way and end.
	OnHung func(error)
	// Written is called after each write with how long it took, its sync included. It must not block. It may be nil.
	Written func(time.Duration)
	// HungAfter is how long a write may take; [DefaultHungAfter] if 0.
	HungAfter time.Duration
}

// DefaultHungAfter is how long a write may take before its disk counts as hung. A disk that is merely slow writes an
// append in far less; clients are refused after the same time.
const DefaultHungAfter = 5 * time.Second

// guard runs what reads and writes the files, and tells what went wrong to whom it concerns.
type guard struct {
	Options
	failed atomic.Pointer[error] // set once: nothing is read or written any more
	hung   atomic.Bool
}

// read runs do, which reads. An error of it that means damage is told.
func (g *guard) read(do func() error) error {
	if err := g.failed.Load(); err != nil {
		return *err
	}
	err := guarded(do)
	if errors.Is(err, damage.Err) {
		g.fail(err, g.OnDamage)
	}
	return err
}

// write runs do, which writes and syncs. retry says whether Raft may try again after a full disk.
func (g *guard) write(retry bool, do func() error) error {
	if err := g.failed.Load(); err != nil {
		return *err
	}
	watch := time.AfterFunc(g.HungAfter, func() {
		if g.hung.CompareAndSwap(false, true) {
			g.OnHung(fmt.Errorf("the disk of the Raft log has not finished a write for %v", g.HungAfter))
		}
	})
	defer watch.Stop()
	began := time.Now()
	err := guarded(do)
	if err == nil && g.Written != nil {
		g.Written(time.Since(began))
	}
	switch {
	case err == nil, retry && damage.FullBeforeSync(err):
	case errors.Is(err, damage.Err):
		g.fail(err, g.OnDamage)
	default:
		// bbolt reads even a meta page that was not synced back from its mapping, and a second fsync says nothing of the
		// pages that the first could not write (damage.FullBeforeSync).
		err = fmt.Errorf("a write of the Raft log failed: %w", err)
		g.fail(err, g.OnFatal)
	}
	return err
}

func (g *guard) fail(err error, tell func(error)) {
	if g.failed.CompareAndSwap(nil, &err) {
		tell(err)
	}
}

func guarded(do func() error) (err error) {
	defer damage.Faults()()
	defer damage.Recover(&err, nil)
	return do()
}
