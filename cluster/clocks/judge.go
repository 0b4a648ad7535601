package clocks

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// DefaultBound is how far clocks may be apart.
	DefaultBound = 30 * time.Second
	// fresh is how long a comparison counts.
	fresh = time.Minute
	// longestDoubt is how long a jump is doubted at most. An operator who is told at once has a day to look.
	longestDoubt = 24 * time.Hour
	// anchorAge is how long a reading is what later ones are measured by: clocks that are slewed drift, by 1.8 s in
	// this time.
	anchorAge = time.Hour
)

// Reading is what a node reads at a moment.
type Reading struct {
	Wall    time.Time
	Elapsed time.Duration // since some moment of this process, by a clock that nobody sets
}

// Answer is what a node says of its clock.
type Answer struct {
	Wall   int64 `cbor:"1,keyasint"` // nanoseconds since 1970
	Steady bool  `cbor:"2,keyasint"` // it has not jumped, or the jump is believed
}

// Offset is how far another node's clock is ahead of this one's.
type Offset struct {
	Ahead       time.Duration
	Uncertainty time.Duration // to both sides
	Steady      bool          // see [Answer]
}

// Judge judges one node's clock. Its methods may be called at the same time.
type Judge struct {
	self  string
	bound time.Duration

	mu       sync.Mutex // guards below
	anchor   Reading    // that was believed
	doubted  bool       // the wall clock has jumped since
	shift    time.Duration
	since    time.Duration // elapsed when it jumped
	compared map[string]comparison
}

// comparison is what another node's clock showed when nothing had elapsed here, so that it tells that clock's time
// after this one was set, too.
type comparison struct {
	zero        time.Time
	uncertainty time.Duration
	steady      bool
	at          time.Duration // elapsed
}

// NewJudge makes the judge of a node's clock. last is a time that the node believed before this process, with nothing
// elapsed since; the zero time if that is lost, and now's if there never was any.
func NewJudge(self string, bound time.Duration, last time.Time, now Reading) *Judge {
	j := &Judge{
		self: self, bound: bound, compared: map[string]comparison{},
		anchor: Reading{Wall: last, Elapsed: now.Elapsed},
	}
	j.look(now)
	return j
}

// Answer is what this node says of its clock.
func (j *Judge) Answer(now Reading) Answer {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.look(now)
	return Answer{Wall: now.Wall.UnixNano(), Steady: !j.doubted}
}

// Compared notes what another node answered to a question that was sent, and answered, at two readings.
func (j *Judge) Compared(node string, sent, answered Reading, a Answer) {
	half := (answered.Elapsed - sent.Elapsed) / 2
	j.mu.Lock()
	defer j.mu.Unlock()
	j.compared[node] = comparison{
		zero: time.Unix(0, a.Wall).Add(-sent.Elapsed - half), uncertainty: half, steady: a.Steady, at: answered.Elapsed,
	}
}

// Believe returns now's time if it may be relied on, given who votes in the region. The error says why not.
func (j *Judge) Believe(now Reading, voters []string) (time.Time, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.look(now)
	agree := 0
	for _, v := range voters {
		if v == j.self || j.agrees(now, v) {
			agree++
		}
	}
	majority, alone := 2*agree > len(voters), len(voters) == 1 && agree == 1
	switch {
	case len(voters) == 0:
		return time.Time{}, fmt.Errorf("this node is not part of a cluster yet")
	case j.doubted && alone:
		return time.Time{}, j.doubt(now)
	case !majority:
		return time.Time{}, j.disagreement(now, voters)
	}
	if j.doubted { // others, which did not jump, have the same time
		j.believe(now)
	}
	return now.Wall, nil
}

// Confirm believes the time that the clock shows: an operator has looked.
func (j *Judge) Confirm(now Reading) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.believe(now)
}

// Believed reports whether now's time may be remembered for the next start.
func (j *Judge) Believed(now Reading) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.look(now)
	return !j.doubted
}

// Offsets are how far the other nodes' clocks are ahead, of those that were compared within a minute.
func (j *Judge) Offsets(now Reading) map[string]Offset {
	j.mu.Lock()
	defer j.mu.Unlock()
	found := map[string]Offset{}
	for node := range j.compared {
		if o, ok := j.offset(now, node); ok {
			found[node] = o
		}
	}
	return found
}

// Ahead is how far this clock is ahead of the middle one of all clocks that are known, its own among them. Only a
// clock that differs from most is far from it.
func (j *Judge) Ahead(now Reading) time.Duration {
	all := []time.Duration{0}
	for _, o := range j.Offsets(now) {
		all = append(all, o.Ahead)
	}
	slices.Sort(all)
	middle := len(all) / 2
	if len(all)%2 == 1 {
		return -all[middle]
	}
	return -(all[middle-1] + all[middle]) / 2
}

// look measures the wall clock by what has elapsed since the anchor. A jump is doubted for as long as it was, up to
// a day: a pause of the machine is soon believed, and a clock that is set back right at once.
func (j *Judge) look(now Reading) {
	elapsed := now.Elapsed - j.anchor.Elapsed
	shift := now.Wall.Sub(j.anchor.Wall) - elapsed
	switch {
	case absolute(shift) <= j.bound:
		j.doubted = false
		if elapsed >= anchorAge {
			j.anchor = now
		}
	case !j.doubted || absolute(shift-j.shift) > j.bound: // it jumped, or jumped again
		j.doubted, j.shift, j.since = true, shift, now.Elapsed
	case now.Elapsed-j.since >= min(absolute(shift), longestDoubt):
		j.believe(now)
	}
}

func (j *Judge) believe(now Reading) { j.anchor, j.doubted = now, false }

func (j *Judge) offset(now Reading, node string) (Offset, bool) {
	c, ok := j.compared[node]
	if !ok || now.Elapsed-c.at > fresh {
		return Offset{}, false
	}
	return Offset{Ahead: c.zero.Add(now.Elapsed).Sub(now.Wall), Uncertainty: c.uncertainty, Steady: c.steady}, true
}

// agrees reports whether another clock that has not jumped shows the same time, whatever the uncertainty.
func (j *Judge) agrees(now Reading, node string) bool {
	o, ok := j.offset(now, node)
	return ok && o.Steady && absolute(o.Ahead) <= j.bound-o.Uncertainty
}

func (j *Judge) doubt(now Reading) error {
	left := min(absolute(j.shift), longestDoubt) - (now.Elapsed - j.since)
	return fmt.Errorf(
		"this node's clock jumped, or nobody knows that it did not while it was down: wait %s, set it right,"+
			" or confirm that it is right with `coffer cluster confirm-clock`", left.Round(time.Second))
}

func (j *Judge) disagreement(now Reading, voters []string) error {
	var said []string
	for _, v := range voters {
		if o, ok := j.offset(now, v); v != j.self && ok && !j.agrees(now, v) {
			text := fmt.Sprintf("%s is ahead by %s ± %s", v,
				o.Ahead.Round(time.Millisecond), o.Uncertainty.Round(time.Millisecond))
			if !o.Steady {
				text += " and doubts its own clock"
			}
			said = append(said, text)
		}
	}
	if len(said) == 0 {
		return fmt.Errorf("the clocks of a majority of the voters could not be compared with this node's in the last %s",
			fresh)
	}
	return fmt.Errorf("this node's clock does not agree within %s with those of a majority of the voters: set them right"+
		" (%s)", j.bound, strings.Join(said, "; "))
}

func absolute(d time.Duration) time.Duration {
	switch {
	case d == math.MinInt64:
		return math.MaxInt64
	case d < 0:
		return -d
	}
	return d
}
