package cluster

import (
	"context"

	"coffer/cluster/raftlog"
	"coffer/cluster/readindex"
)

// open opens what this node has on disk.
func (n *Cluster) open() (err error) {
	c := n.config
	if n.judge, err = n.newJudge(); err != nil {
		return err
	}
	if n.kept, err = readindex.OpenKept(c.Dir); err != nil {
		return err
	}
	if n.snapshots, err = openSnapshots(c.Dir, c.Store, machine{c.Store, n}.Restore, c.Log); err != nil {
		return err
	}
	_, doubt, err := readRestoreMark(c.Dir)
	if err != nil {
		return err
	}
	n.restoring.doubt.Store(doubt)
	n.logs, err = raftlog.Open(c.Dir, raftlog.Options{
		Log: c.Log, Used: c.Store.Durable().Through > 0,
		OnDamage: c.OnDamage, OnFatal: c.OnFatal, OnHung: c.OnHung, Written: c.Observe.LogWritten,
	})
	if err != nil {
		return err
	}
	if n.logs.ClusterID() == "" && hasDiscarded(c.Dir) {
		n.discarded, n.config.BootstrapExpect = true, 0
	}
	n.circle, n.book = newCircle(n), openBook(c.Dir)
	n.snapshots.logs = n.logs
	return nil
}

// runAll runs what this node does all the time, a member's part or, until it is one, the forming of a cluster.
func (n *Cluster) runAll(ctx context.Context, member bool) {
	n.run(ctx, n.proposer.run)
	n.run(ctx, n.answerReadIndexes)
	n.run(ctx, n.keepConfirmed)
	n.run(ctx, n.watchLeadership)
	n.run(ctx, func(ctx context.Context) { n.gossip.join(ctx, n.config.Join) })
	n.run(ctx, n.gossip.rekey)
	n.run(ctx, n.closeRefused)
	if n.regions != nil {
		n.run(ctx, func(ctx context.Context) { n.regions.pool.join(ctx, n.config.Regions.Join) })
		n.run(ctx, n.regions.pool.rekey)
	}
	n.run(ctx, n.promoteLearners)
	n.run(ctx, n.watchHalted)
	n.run(ctx, n.applies.run)
	n.run(ctx, n.removeDead)
	n.run(ctx, n.watchClock)
	n.run(ctx, n.watchMembers)
	n.run(ctx, n.watchDoubt)
	n.run(ctx, n.watchForeign)
	n.run(ctx, func(ctx context.Context) { every(ctx, forgetInterval, n.snapshots.forgetReplaced) })
	if !member {
		n.run(ctx, n.form)
	}
	n.peers.serve(&n.done)
}
