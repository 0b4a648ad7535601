package e2e_test

import (
	"testing"
	"time"
)

// TestPartition cuts a node off from the others, a leader first and then a follower, while clients go on at
// all three. It needs root, for network namespaces.
func TestPartition(t *testing.T) {
	c := newCluster(t, 3)
	remove, err := c.Isolate()
	noError(t, err)
	t.Cleanup(func() { c.Close(); remove() })
	noError(t, c.Start(ctx(t, time.Minute)))
	w := startWorkload(t, c)
	w.progress()
	for _, leads := range []bool{true, false} {
		leader := must(c.Leader(ctx(t, time.Minute)))(t)
		cut := leader
		for _, n := range c.Nodes {
			if !leads && n != leader {
				cut = n
			}
		}
		t.Logf("cut off %s, leader is %s", cut.ID, leader.ID)
		noError(t, cut.Cut())
		w.awaitStale(cut) // it is cut off for as long as that takes
		w.progress()
		noError(t, cut.Heal())
		noError(t, cut.AwaitReady(ctx(t, time.Minute)))
		w.progress()
	}
	w.finish()
	verify(t, c)
}

// TestPowerLoss takes the power from all disks of a region at once, under load: what was acknowledged must
// still be there. It needs root, for the nodes' file systems.
func TestPowerLoss(t *testing.T) {
	c := newCluster(t, 3)
	disks := onDisks(t, c)
	noError(t, c.Start(ctx(t, time.Minute)))
	w := startWorkload(t, c)
	for range 3 {
		w.progress()
		losePower(t, c, disks)
	}
	w.progress()
	w.finish()
	verify(t, c)
}
