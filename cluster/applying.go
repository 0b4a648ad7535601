package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

const (
	applyingInterval = time.Second
	// applyingLong is how long the applying of one entry may take before the node says so.
	applyingLong = 10 * time.Second
)

// applyWatch notices a log entry whose applying takes long, perhaps for ever: every entry behind it waits, and so does
// whoever leads, though nothing else fails.
type applyWatch struct {
	applying func() (index, sum uint64)
	log      *slog.Logger

	at   uint64       // entry that was being applied at the last look
	took atomic.Int64 // how long at least, counted in looks: a time in which the process was paused counts for nothing
	slow atomic.Pointer[string]
}

func (w *applyWatch) run(ctx context.Context) { every(ctx, applyingInterval, w.look) }

func (w *applyWatch) look() {
	index, sum := w.applying()
	if index == 0 || index != w.at {
		if w.slow.Swap(nil) != nil {
			w.log.Warn("the log entry that took long is applied now", "index", w.at)
		}
		w.at = index
		w.took.Store(0)
		return
	}
	took := time.Duration(w.took.Add(int64(applyingInterval)))
	if took < applyingLong {
		return
	}
	text := fmt.Sprintf("applying log entry %d (%d:%016x) has taken more than %v, and may never end: nothing behind it"+
		" is applied", index, index, sum, took)
	w.slow.Store(&text)
	if took%applyingLong == 0 {
		w.log.Error("a log entry takes long to apply", "index", index, "error", text)
	}
}

// err says which entry takes long to apply, nil if none does.
func (w *applyWatch) err() error {
	if text := w.slow.Load(); text != nil {
		return &NotReady{Applying, fmt.Errorf("%s", *text)}
	}
	return nil
}

// ApplyingFor is how long the log entry that this node applies at the moment has taken, in whole seconds.
func (n *Cluster) ApplyingFor() time.Duration { return time.Duration(n.applies.took.Load()) }
