package cluster

import (
	"context"
	"sort"
	"time"

	"github.com/hashicorp/raft"
)

// formInterval is how often a node without a cluster looks for one, and a leader for nodes to promote.
const formInterval = 200 * time.Millisecond

// every calls do at once and then at intervals until ctx ends.
func every(ctx context.Context, interval time.Duration, do func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		do()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// fresh counts the nodes, this one included, that wait to form a cluster of the same size.
func (n *Cluster) fresh() int { return len(n.freshNodes()) }

func (n *Cluster) freshNodes() []string {
	var ids []string
	for id, m := range n.gossip.members() {
		if !m.Formed && m.Expect == n.config.BootstrapExpect {
			ids = append(ids, id)
		}
	}
	sort.Strings(ids)
	return ids
}

// form makes this node, which has no data, part of a cluster: of one that it hears of, or of a new one,
// which the first by id of the expected nodes begins and the others join. The new cluster takes no
// writes before all expected nodes vote in it (establish).
func (n *Cluster) form(ctx context.Context) {
	ctx, formed := context.WithCancel(ctx)
	defer formed()
	every(ctx, formInterval, func() {
		n.formMu.Lock()
		defer n.formMu.Unlock()
		others := false
		for id, m := range n.gossip.members() {
			if !m.Formed || id == n.id {
				continue
			}
			others = true
			err := n.join(ctx, id)
			if err == nil {
				n.log.Info("joined the cluster", "through", id)
				formed()
				return
			}
			n.log.Debug("not taken in yet", "through", id, "error", err)
		}
		fresh := n.freshNodes()
		if others || n.config.BootstrapExpect == 0 || len(fresh) < n.config.BootstrapExpect || fresh[0] != n.id {
			return
		}
		if err := n.bootstrap(); err != nil {
			n.log.Error("a new cluster could not be formed", "error", err)
			return
		}
		n.log.Info("began a new cluster", "expects", n.config.BootstrapExpect)
		formed()
	})
}

func (n *Cluster) bootstrap() error {
	snapshots, err := n.snapshotStore()
	if err != nil {
		return err
	}
	servers := raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(n.id), Address: raft.ServerAddress(n.id)}}}
	if err := raft.BootstrapCluster(n.raftConfig(), n.logs, n.logs, snapshots, n.peers.raftTransport(), servers); err != nil {
		return err
	}
	return n.startRaft(snapshots)
}

// awaitVoters waits until the expected nodes vote in a cluster that has no state yet.
func (n *Cluster) awaitVoters(ctx context.Context, r *raft.Raft) error {
	if n.config.Store.Applied() > 0 {
		return nil
	}
	for n.voters() < n.config.BootstrapExpect {
		select {
		case <-time.After(formInterval / 4):
		case <-ctx.Done():
			return ctx.Err()
		}
		if r.State() != raft.Leader {
			return raft.ErrLeadershipLost
		}
	}
	return nil
}
