package cluster

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"coffer/cluster/clocks"
)

const (
	// compareClocks is how often a node compares its clock with the others', and notes the time for its next start.
	compareClocks = 10 * time.Second
	// askClock is how long an answer may take.
	askClock = 3 * time.Second
	// clockFile holds the last time that was believed, in nanoseconds since 1970.
	clockFile = "clock"
)

// Clock is what a node knows of its clock.
type Clock struct {
	// Believed is false while what can't be undone waits, since the clock may be wrong.
	Believed bool                   `json:"believed"`
	Because  string                 `json:"because,omitempty"` // it is not
	Others   map[string]ClockOffset `json:"others,omitempty"`
}

// ClockOffset is how far another node's clock is ahead, in milliseconds.
type ClockOffset struct {
	Ahead       float64 `json:"ahead_ms"`
	Uncertainty float64 `json:"uncertainty_ms"`
}

// read reads this node's clocks.
func (n *Cluster) read() clocks.Reading {
	return clocks.Reading{Wall: n.config.Now().Round(0), Elapsed: time.Since(n.started)}
}

// Time is the time for what can't be undone, such as purges. It fails while this node's clock may be wrong: it
// differs from those of a majority of the voters, could not be compared lately, or has jumped.
func (n *Cluster) Time() (time.Time, error) { return n.judge.Believe(n.read(), n.members().Voters()) }

// ClockAhead is how far this node's clock is ahead of the middle one of those that are known.
func (n *Cluster) ClockAhead() time.Duration { return n.judge.Ahead(n.read()) }

// ConfirmClock says that what this node's clock shows is right. It does not overrule a majority's clocks.
func (n *Cluster) ConfirmClock() { n.judge.Confirm(n.read()) }

func (n *Cluster) clock() Clock {
	c := Clock{Others: map[string]ClockOffset{}}
	_, err := n.Time()
	if c.Believed = err == nil; !c.Believed {
		c.Because = err.Error()
	}
	for id, o := range n.judge.Offsets(n.read()) {
		c.Others[id] = ClockOffset{Ahead: milliseconds(o.Ahead), Uncertainty: milliseconds(o.Uncertainty)}
	}
	return c
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// newJudge makes the judge of this node's clock, which remembers the last start.
func (n *Cluster) newJudge() (*clocks.Judge, error) {
	now := n.read()
	last := now.Wall
	text, err := os.ReadFile(filepath.Join(n.config.Dir, clockFile))
	switch {
	case errors.Is(err, fs.ErrNotExist) && n.config.Store.Applied() == 0: // nothing is there that could be lost
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	default:
		last = time.Time{} // unless the file says more; a power failure can have taken it
		if ns, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
			last = time.Unix(0, ns)
		}
	}
	return clocks.NewJudge(n.id, n.config.MaxClockOffset, last, now), nil
}

// noteTime notes the time for the next start. It is not synced, and may fail: the clock is only doubted longer then.
func (n *Cluster) noteTime() {
	now := n.read()
	if n.judge == nil || !n.judge.Believed(now) {
		return
	}
	path := filepath.Join(n.config.Dir, clockFile)
	err := os.WriteFile(path+".new", strconv.AppendInt(nil, now.Wall.UnixNano(), 10), 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		n.log.Debug("the time could not be noted for the next start", "error", err)
	}
}

// watchClock compares this node's clock with the others' until ctx ends, more often while it is not believed.
func (n *Cluster) watchClock(ctx context.Context) {
	why := ""
	for {
		n.askClocks(ctx)
		n.noteTime()
		_, err := n.Time()
		wait := compareClocks
		if err != nil {
			wait = time.Second
		}
		switch {
		case err != nil && why == "" && n.raft.Load() != nil:
			why = err.Error()
			n.log.Warn("what can't be undone waits for this node's clock to be believed", "error", err)
		case err == nil && why != "":
			why = ""
			n.log.Info("this node's clock is believed")
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			n.noteTime()
			return
		}
	}
}

// askClocks asks all other voters for their time, at once.
func (n *Cluster) askClocks(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askClock)
	defer cancel()
	var asked sync.WaitGroup
	for _, id := range n.members().Voters() {
		if id == n.id {
			continue
		}
		asked.Go(func() {
			var a clocks.Answer
			sent := n.read()
			if err := n.call(ctx, id, "/clock", nil, &a); err == nil {
				n.judge.Compared(id, sent, n.read(), a)
			}
		})
	}
	asked.Wait()
}

func (n *Cluster) handleClock(w http.ResponseWriter, _ *http.Request) {
	writeCBOR(w, n.judge.Answer(n.read()))
}

// handleConfirmClock is an operator's word that this node's clock is right.
func (n *Cluster) handleConfirmClock(w http.ResponseWriter, r *http.Request) {
	n.ConfirmClock()
	n.log.Warn("an operator confirmed this node's clock", "operator", callerOf(r).ID, "time", n.config.Now().UTC())
	writeJSON(w, n.clock())
}
