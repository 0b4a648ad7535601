package cluster

import (
	"context"
	"time"

	"github.com/hashicorp/raft"
)

// finishRecovery begins a new epoch in the region that a survivor was made into ([Survivor.Recover]), before it takes a
// write or a node: what the lost majority acknowledged may be missing here, and other regions have seen it.
func (n *Cluster) finishRecovery(ctx context.Context, r *raft.Raft) error {
	for n.logs.Recovered() > 0 {
		err := n.beginEpoch(ctx, r)
		if err == nil {
			err = n.logs.EndRecovery()
		}
		if err == nil {
			n.log.Info("this node was made the region, and has begun a new epoch")
			return nil
		}
		if r.State() != raft.Leader {
			return err
		}
		n.log.Error("the recovered region takes no writes until its epoch has begun; trying again", "error", err)
		select {
		case <-time.After(formInterval):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
