package replication

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"coffer/cluster"
	"coffer/fsm"
	"coffer/mistake"
	sm "coffer/secretsmanager"
	"coffer/serving"
)

// Cluster is this node's region, and its way to the others.
type Cluster interface {
	// LeaderTerm is the term in which this node leads; 0 if it does not.
	LeaderTerm() uint64
	// Regions are the nodes of all regions that have been heard of.
	Regions() map[string][]cluster.RegionNode
	// CallRegion asks nodes of another region until one answers.
	CallRegion(ctx context.Context, region, path string, wait time.Duration, in, into any) error
	// ReachRegion fails if no node of another region answers.
	ReachRegion(ctx context.Context, region, path string, wait time.Duration, in any) error
}

// Agent is the replication on one node.
type Agent struct {
	base    *serving.Base
	secrets *sm.Service
	cluster Cluster
	log     *slog.Logger
	keys    keys
	metrics *metrics
	atOnce  int // messages of a batch that are brought in at the same time

	mu       sync.Mutex // guards couriers
	couriers map[string]*courier
}

// New makes an agent, which is told from then on what the store's outbox has.
func New(base *serving.Base, secrets *sm.Service, cluster Cluster, log *slog.Logger,
	registry prometheus.Registerer) *Agent {
	a := &Agent{
		base: base, secrets: secrets, cluster: cluster, log: log, keys: keys{base: base}, couriers: map[string]*courier{},
		atOnce: batchMessages,
	}
	a.metrics = newMetrics(a, registry)
	base.Store.OnOutbox(a.notice)
	return a
}

// notice is called with keys of the outbox whose entries have changed (fsm.Store.OnOutbox).
func (a *Agent) notice(keys []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(keys) == 0 { // the state was replaced
		for _, c := range a.couriers {
			c.lookAgain()
		}
	}
	for _, key := range keys {
		if c := a.couriers[fsm.OutboxRegion(key)]; c != nil {
			c.notice(key)
		}
	}
}

// leadInterval is how often a node looks whether it leads, and for regions that it did not know.
const leadInterval = 100 * time.Millisecond

// mistakeRest is how long a courier that failed by a mistake in the code is not replaced.
const mistakeRest = time.Second

// Run sends what is in the outbox while this node leads, until ctx ends.
func (a *Agent) Run(ctx context.Context) {
	tick := time.NewTicker(leadInterval)
	defer tick.Stop()
	for {
		if term := a.cluster.LeaderTerm(); term != 0 {
			a.lead(ctx, term)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// lead runs a courier to each other region until the term ends.
func (a *Agent) lead(ctx context.Context, term uint64) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer func() {
		cancel()
		running.Wait()
		a.mu.Lock()
		clear(a.couriers)
		a.mu.Unlock()
	}()
	tick := time.NewTicker(leadInterval)
	defer tick.Stop()
	for ready := false; a.cluster.LeaderTerm() == term; {
		others := a.others()
		if !ready && len(others) > 0 {
			err := a.keys.ensure(ctx)
			if ready = err == nil; !ready {
				a.log.Debug("the region's replication key could not be made yet", "error", err)
			}
		}
		for _, region := range others {
			if !ready {
				continue
			}
			if c := a.newCourier(region, term); c != nil {
				running.Go(func() { a.send(ctx, c) })
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// newCourier makes the courier to a region, unless there is one.
func (a *Agent) newCourier(region string, term uint64) *courier {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.couriers[region] != nil {
		return nil
	}
	c := newCourier(a, region, term)
	a.couriers[region] = c
	return c
}

// send runs a courier until ctx ends, or until it has failed by a mistake in the code: then another can take its place.
func (a *Agent) send(ctx context.Context, c *courier) {
	_ = mistake.Catch(c.log, "sending to a region failed by a mistake in the code", func() error {
		c.run(ctx)
		return nil
	})
	c.rest(ctx, mistakeRest)
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.couriers, c.region)
}

// others are the other regions that are known.
func (a *Agent) others() []string {
	known := map[string]bool{}
	for region := range a.cluster.Regions() {
		known[region] = true
	}
	_ = a.base.Store.View(func(tx *fsm.Tx) error { // damage is reported by the store
		tx.Peers(func(p fsm.Peer) { known[p.Region] = true })
		return nil
	})
	delete(known, a.base.Region)
	var regions []string
	for region := range known {
		regions = append(regions, region)
	}
	return regions
}
