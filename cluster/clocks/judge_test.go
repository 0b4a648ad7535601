package clocks_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"coffer/cluster/clocks"
)

var (
	start  = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	voters = []string{"n1", "n2", "n3"}
)

// world is a few nodes with clocks of their own.
type world struct {
	truth  time.Duration // elapsed
	clocks map[string]*clock
}

type clock struct {
	*clocks.Judge
	off time.Duration // from the true time
}

func newWorld(ids ...string) *world {
	w := &world{clocks: map[string]*clock{}}
	for _, id := range ids {
		w.clocks[id] = &clock{}
		now := w.read(id)
		w.clocks[id].Judge = clocks.NewJudge(id, clocks.DefaultBound, now.Wall, now)
	}
	return w
}

func (w *world) read(id string) clocks.Reading {
	return clocks.Reading{Wall: start.Add(w.truth + w.clocks[id].off), Elapsed: w.truth}
}

// compare has one node ask all others; each way of a question takes a time of its own.
func (w *world) compare(id string, there, back time.Duration) {
	for other, c := range w.clocks {
		if other != id {
			sent := w.read(id)
			w.truth += there
			a := c.Answer(w.read(other))
			w.truth += back
			w.clocks[id].Compared(other, sent, w.read(id), a)
		}
	}
}

func (w *world) compareAll() {
	for _, id := range voters {
		if w.clocks[id] != nil {
			w.compare(id, time.Millisecond, time.Millisecond)
		}
	}
}

// pass lets time pass, in which nodes compare their clocks.
func (w *world) pass(d time.Duration) {
	for end := w.truth + d; w.truth < end; {
		w.truth += 10 * time.Second
		w.compareAll()
	}
}

func (w *world) believed(id string, of []string) error {
	_, err := w.clocks[id].Believe(w.read(id), of)
	return err
}

func wantRefused(t *testing.T, err error, why string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), why) {
		t.Fatalf("%v, wanted %q", err, why)
	}
}

func wantBelieved(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestJumpOfOneClockIsRefused sets one of three clocks ahead: it is refused at once and after comparisons, the
// others are believed; set right, it is believed at once.
func TestJumpOfOneClockIsRefused(t *testing.T) {
	w := newWorld(voters...)
	wantRefused(t, w.believed("n1", voters), "could not be compared")
	w.compareAll()
	wantBelieved(t, w.believed("n1", voters))
	w.clocks["n1"].off = 30 * 24 * time.Hour
	wantRefused(t, w.believed("n1", voters), "does not agree")
	for range 3 {
		w.pass(24 * time.Hour)
		wantRefused(t, w.believed("n1", voters), "n2 is ahead by -720h0m0s ± 1ms")
		wantBelieved(t, w.believed("n2", voters))
		if ahead := w.clocks["n1"].Ahead(w.read("n1")); ahead != 30*24*time.Hour {
			t.Errorf("n1 is ahead by %v", ahead)
		}
		if ahead := w.clocks["n2"].Ahead(w.read("n2")); ahead != 0 {
			t.Errorf("n2 is ahead by %v", ahead)
		}
	}
	w.clocks["n1"].off = 0
	w.compareAll()
	wantBelieved(t, w.believed("n1", voters))
}

// TestComparisonsGrowOld cuts a node off.
func TestComparisonsGrowOld(t *testing.T) {
	w := newWorld(voters...)
	w.compareAll()
	w.truth += 59 * time.Second
	wantBelieved(t, w.believed("n1", voters))
	w.truth += 2 * time.Second
	wantRefused(t, w.believed("n1", voters), "could not be compared")
}

// TestSlowAnswersProveNothing has answers take so long that the clocks can be further apart than the bound.
func TestSlowAnswersProveNothing(t *testing.T) {
	w := newWorld("n1", "n2")
	w.compare("n1", 25*time.Second, 25*time.Second)
	wantBelieved(t, w.believed("n1", voters[:2]))
	for _, times := range [][2]time.Duration{{0, 50 * time.Second}, {32 * time.Second, 32 * time.Second}} {
		w.compare("n1", times[0], times[1])
		wantRefused(t, w.believed("n1", voters[:2]), "does not agree")
	}
}

// TestAllClocksJumpTogether has the source that all follow go wrong: each doubts itself, so none confirms another,
// for as long as the jump was, up to a day.
func TestAllClocksJumpTogether(t *testing.T) {
	for jump, doubted := range map[time.Duration]time.Duration{time.Hour: time.Hour, 30 * 24 * time.Hour: 24 * time.Hour} {
		w := newWorld(voters...)
		w.pass(time.Minute)
		for _, c := range w.clocks {
			c.off += jump
		}
		w.pass(doubted - time.Minute)
		wantRefused(t, w.believed("n1", voters), "doubts its own clock")
		w.pass(2 * time.Minute)
		wantBelieved(t, w.believed("n1", voters))
	}
}

// TestLoneClock has nobody to compare with.
func TestLoneClock(t *testing.T) {
	alone := voters[:1]
	w := newWorld("n1")
	wantBelieved(t, w.believed("n1", alone))
	w.clocks["n1"].off = time.Hour
	wantRefused(t, w.believed("n1", alone), "wait 1h0m0s")
	w.truth += 30 * time.Minute
	w.clocks["n1"].off = 2 * time.Hour // it jumps again
	wantRefused(t, w.believed("n1", alone), "wait 2h0m0s")
	w.truth += 119 * time.Minute
	wantRefused(t, w.believed("n1", alone), "wait 1m0s")
	w.truth += time.Minute
	wantBelieved(t, w.believed("n1", alone))

	w.clocks["n1"].off = 0 // it is set back, and the operator says that this is right
	wantRefused(t, w.believed("n1", alone), "jumped")
	w.clocks["n1"].Confirm(w.read("n1"))
	wantBelieved(t, w.believed("n1", alone))
}

// TestStart has a node come back with a time that it believed before, or has lost.
func TestStart(t *testing.T) {
	now := clocks.Reading{Wall: start, Elapsed: time.Second}
	for _, test := range []struct {
		last time.Time
		why  string
	}{
		{start, ""},
		{start.Add(-20 * time.Second), ""},
		{start.Add(-time.Hour), "wait 1h0m0s"},
		{start.Add(time.Hour), "wait 1h0m0s"},
		{start.AddDate(-3, 0, 0), "wait 24h0m0s"},
		{time.Time{}, "wait 24h0m0s"},
		{time.Unix(1<<40, 0), "wait 24h0m0s"},
	} {
		_, err := clocks.NewJudge("n1", clocks.DefaultBound, test.last, now).Believe(now, voters[:1])
		if test.why == "" {
			wantBelieved(t, err)
		} else {
			wantRefused(t, err, test.why)
		}
	}
}

// TestMinorityIsNeverBelieved sets one of three clocks as it comes, while time passes, questions are fast or slow,
// and nodes start anew: whenever it is believed it is right within the bound.
func TestMinorityIsNeverBelieved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(voters...)
		span := func(name string, most time.Duration) time.Duration {
			return time.Duration(rapid.Int64Range(0, int64(most)).Draw(t, name))
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0:
				w.clocks["n1"].off = span("off", 60*24*time.Hour) - 30*24*time.Hour
			case 1:
				w.clocks["n1"].off = span("small off", 2*time.Minute) - time.Minute
			case 2:
				w.truth += span("passes", 48*time.Hour)
			case 3:
				w.compare("n1", span("there", 40*time.Second), span("back", 40*time.Second))
			case 4:
				now := w.read("n1")
				w.clocks["n1"].Judge = clocks.NewJudge("n1", clocks.DefaultBound, now.Wall, now)
			}
			off := w.clocks["n1"].off
			if w.believed("n1", voters) == nil && max(off, -off) > clocks.DefaultBound {
				t.Fatalf("a clock that is off by %v is believed", off)
			}
		}
	})
}
