package cluster_test

import (
	"testing"
	"time"

	"coffer/cluster"
)

// TestTheAgeOfOldStateIsNeverLessThanTheTruth restarts a node that is left alone: its state is as old as before, though
// it has just started. The time since it was stopped, which all else here takes a part of, counts.
func TestTheAgeOfOldStateIsNeverLessThanTheTruth(t *testing.T) {
	nodes := newGroup(t).three()
	alone := nodes[2]
	noError(t, nodes[0].write("known"))
	noError(t, alone.ReadBarrier(t.Context()))
	alone.stop()
	stopped := time.Now()
	noError(t, nodes[0].write("unknown to it"))
	nodes[0].stop()
	nodes[1].stop()
	alone.start()
	if err := alone.ReadBarrier(t.Context()); err == nil {
		t.Fatal("a node alone was confirmed")
	}
	if age, truth := alone.StaleFor(), time.Since(stopped); age < truth {
		t.Errorf("the state is said to be %v old, and is at least %v", age, truth)
	}
	// It is not said to be as old as the world either: a round a second is kept once the disk has what it covers.
	if age, truth := alone.StaleFor(), time.Since(stopped); age > truth+time.Minute {
		t.Errorf("the state is said to be %v old, and is %v", age, truth)
	}
}

func TestElectionTimeoutsAreBounded(t *testing.T) {
	for d, ok := range map[time.Duration]bool{
		0: true, cluster.DefaultElectionTimeout: true, 99 * time.Millisecond: false, 100 * time.Millisecond: true,
		10 * time.Second: true, 11 * time.Second: false, -1: false,
	} {
		if err := cluster.CheckElectionTimeout(d); (err == nil) != ok {
			t.Errorf("%v: %v", d, err)
		}
	}
}

// TestARegionWithAnotherElectionTimeout forms, and has the timings that follow from it.
func TestARegionWithAnotherElectionTimeout(t *testing.T) {
	g := newGroup(t)
	g.with = func(c *cluster.Config) { c.ElectionTimeout = time.Second }
	nodes := g.three()
	leaderOf(nodes...).stop()
	next := leaderOf(nodes...)
	next.await("to take writes", func() error { return next.write("after the loss") })
}
