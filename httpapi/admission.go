package httpapi

import (
	"context"
	"time"

	"coffer/serving"
)

// gate lets so many requests be carried out at a time. The others wait, first come first served, but not longer than a
// bound: a node that has more to do than it can do says so while the client still listens, and does not work off what
// nobody waits for any more.
type gate struct {
	slots chan struct{}
	wait  time.Duration
}

func newGate(atOnce int, wait time.Duration) *gate {
	return &gate{slots: make(chan struct{}, atOnce), wait: wait}
}

// enter waits for a slot. It fails with [serving.ErrThrottled] if none is free in time, or if ctx ends.
func (g *gate) enter(ctx context.Context) error {
	select {
	case g.slots <- struct{}{}:
		return nil
	default:
	}
	late := time.NewTimer(g.wait)
	defer late.Stop()
	select {
	case g.slots <- struct{}{}:
		return nil
	case <-late.C:
	case <-ctx.Done():
	}
	return serving.ErrThrottled
}

func (g *gate) leave() { <-g.slots }

// inUse is how many requests are being carried out.
func (g *gate) inUse() int { return len(g.slots) }
