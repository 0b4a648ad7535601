package replication_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coffer/cluster"
	"coffer/fsm"
	"coffer/replication"
	"coffer/serving"
)

// clumsy is a region's network whose code panics a few times.
type clumsy struct {
	replication.Cluster
	others []string

	mu     sync.Mutex
	panics []string // paths
}

func (c *clumsy) Regions() map[string][]cluster.RegionNode {
	found := map[string][]cluster.RegionNode{}
	for _, other := range c.others {
		found[other] = []cluster.RegionNode{{ID: "n1", Alive: true}}
	}
	return found
}

func (c *clumsy) CallRegion(ctx context.Context, region, path string, wait time.Duration, in, into any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.panics, path); i >= 0 {
		c.panics = slices.Delete(c.panics, i, i+1)
		panic("clumsy")
	}
	return c.Cluster.CallRegion(ctx, region, path, wait, in, into)
}

// TestSendingGoesOnAfterMistakes has every kind of call to another region panic twice: what is to be sent arrives
// all the same.
func TestSendingGoesOnAfterMistakes(t *testing.T) {
	inWorld(t, func(w *world) {
		r := w.regions[us]
		network := &clumsy{Cluster: r, others: []string{eu}, panics: slices.Concat(replication.Paths, replication.Paths)}
		r.agent = r.newAgent(network)
		ctx, cancel := context.WithCancel(w.ctx)
		var running sync.WaitGroup
		running.Go(func() { r.agent.Run(ctx) })
		w.create(us, "a", "1", eu)
		time.Sleep(time.Hour) // of the test's clock: comparisons come once in a while
		synctest.Wait()
		w.want(eu, "a", "1")
		w.must(w.put(us, "a", "2"))
		time.Sleep(time.Minute)
		w.want(eu, "a", "2")
		cancel()
		running.Wait()
		if len(network.panics) > 0 {
			t.Errorf("nothing called %v", network.panics)
		}
	})
}

// clumsyCluster panics where a command is proposed.
type clumsyCluster struct {
	serving.Cluster
	panics int
}

func (c *clumsyCluster) Propose(ctx context.Context, command []byte) (fsm.Outcome, error) {
	if c.panics > 0 {
		c.panics--
		panic("clumsy")
	}
	return c.Cluster.Propose(ctx, command)
}

// TestMessageThatMeetsMistakeIsTakenLater has the receiving region panic while it carries out a message.
func TestMessageThatMeetsMistakeIsTakenLater(t *testing.T) {
	inWorld(t, func(w *world) {
		r := w.regions[eu]
		w.create(us, "a", "1", eu)
		w.send(us, eu)
		w.must(w.put(us, "a", "2"))
		r.Base.Cluster = &clumsyCluster{Cluster: r.Base.Cluster, panics: 1}
		w.regions[us].to[eu].Step(w.ctx)
		w.want(eu, "a", "1")
		w.send(us, eu)
		w.want(eu, "a", "2")
	})
}
