package node

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"coffer/fsm"
	"coffer/mistake"
)

// How often the background jobs run.
const (
	readyInterval   = time.Second
	purgeInterval   = 5 * time.Second
	keysInterval    = 5 * time.Second
	accessInterval  = 5 * time.Second
	compareInterval = time.Minute
	scrubInterval   = time.Hour
	replicationRest = time.Second // before replication begins again after a mistake in the code
)

func (n *Node) startJobs(ctx context.Context, g *errgroup.Group) {
	job := func(interval time.Duration, do func(context.Context)) {
		g.Go(func() error {
			repeat(ctx, n.log, interval, do)
			return nil
		})
	}
	atOnce := func(interval time.Duration, do func(context.Context)) {
		g.Go(func() error {
			once(ctx, n.log, do)
			repeat(ctx, n.log, interval, do)
			return nil
		})
	}
	atOnce(replicationRest, n.replication.Run)
	job(followInterval, n.unseal)
	job(readyInterval, n.noteReady)
	job(purgeInterval, n.purge)
	job(keysInterval, n.advanceKeys)
	job(accessInterval, func(ctx context.Context) {
		if err := n.service.FlushAccess(ctx); err != nil {
			n.log.Debug("last access dates wait for a leader", "error", err)
		}
	})
	job(compareInterval, n.compare)
	atOnce(scrubInterval, n.scrub)
}

// repeat does a job at each tick until ctx ends. A mistake in the code ends one run, not the job and not the process.
func repeat(ctx context.Context, log *slog.Logger, interval time.Duration, do func(context.Context)) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			once(ctx, log, do)
		case <-ctx.Done():
			return
		}
	}
}

func once(ctx context.Context, log *slog.Logger, do func(context.Context)) {
	_ = mistake.Catch(log, "a background job failed by a mistake in the code", func() error { // the stack names it
		do(ctx)
		return nil
	})
}

// unseal looks for the root key where this node does not have it, and forms a new cluster's state with it.
func (n *Node) unseal(ctx context.Context) {
	n.roots.follow(ctx)
	if !n.cluster.IsLeader() {
		return
	}
	if err := n.initialize(ctx); err != nil {
		n.log.Warn("the cluster's state could not be formed yet", "error", err)
	}
}

// noteReady logs why the node is not ready, when that changes.
func (n *Node) noteReady(context.Context) {
	err := n.ready()
	now := class(err)
	switch {
	case now == n.noted:
	case err == nil:
		n.log.Info("this node is ready")
	default:
		n.log.Warn("this node is not ready", "class", now, "error", err)
	}
	n.noted = now
}

// purge deletes, on the leader, the secrets whose recovery window is over.
func (n *Node) purge(ctx context.Context) {
	if !n.cluster.IsLeader() {
		return
	}
	at, err := n.cluster.Time()
	if err != nil {
		return // told when it began; a clock that is wrong must not end recovery windows
	}
	purged, err := n.service.Purge(ctx, at)
	if err != nil {
		n.log.Warn("secrets whose recovery window is over could not be deleted yet", "error", err)
	} else if purged > 0 {
		n.log.Info("secrets deleted at the end of their recovery window", "count", purged)
	}
}

// advanceKeys rotates and deletes, on the leader, the keys for which it is time, and forgets on each node the
// material that is no more.
func (n *Node) advanceKeys(ctx context.Context) {
	if err := n.base.Keyring.Forget(n.store); err != nil {
		return // damage is reported by the store
	}
	if !n.cluster.IsLeader() {
		return
	}
	at, err := n.cluster.Time()
	if err != nil {
		return // told when it began; a clock that is wrong must not delete keys
	}
	changed, err := n.keys.Advance(ctx, at)
	if err != nil {
		n.log.Warn("keys that are due to be rotated or deleted could not all be yet", "error", err)
	} else if changed > 0 {
		n.log.Info("keys were rotated or deleted on schedule", "count", changed)
	}
}

// compare compares, on the leader, the nodes' states.
func (n *Node) compare(ctx context.Context) {
	if !n.cluster.IsLeader() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, compareInterval/2)
	defer cancel()
	report, err := n.cluster.CompareDigests(ctx)
	switch {
	case err != nil:
		n.log.Debug("the nodes' states could not be compared", "error", err)
	case report.Unclear:
		n.log.Error("the nodes' states differ and no majority agrees: stop the cluster and restore a snapshot",
			"index", report.Index, "digests", report.Digests)
	case len(report.Differ) > 0:
		n.log.Error("the state of nodes differs from the majority's; "+
			"one at a time looks into it, and takes everything anew", "index", report.Index, "nodes", report.Differ)
	}
}

// scrub verifies everything that is stored.
func (n *Node) scrub(ctx context.Context) {
	began := time.Now()
	rows, err := n.store.Scrub(ctx)
	if err != nil && !errors.Is(err, fsm.ErrDamaged) { // damage is reported by the store
		n.log.Warn("stored data could not be verified", "error", err)
		return
	}
	if took := time.Since(began); ctx.Err() == nil {
		n.log.Info("all that is stored was verified", "rows", rows, "took", took.Round(time.Millisecond).String())
	}
}
