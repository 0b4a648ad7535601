package cluster

import (
	"context"
	"time"

	"github.com/hashicorp/raft"

	"coffer/fsm"
)

// haltedInterval is how often a node whose store has stopped applying looks for what helps.
const haltedInterval = time.Second

// watchHalted does what can be done while this node's store has stopped applying: it goes on behind an entry that the
// region skips, and hands leadership over.
func (n *Cluster) watchHalted(ctx context.Context) {
	left := false
	every(ctx, haltedInterval, func() {
		at, stopped := n.config.Store.Stopped()
		r := n.raft.Load()
		if !stopped || r == nil {
			return
		}
		if at.Skipped && !left {
			left = n.goOn(ctx, at)
		}
		if n.config.Store.Halted() != nil {
			n.yield(ctx, r, at)
		}
	})
}

// yield hands leadership over when another voter has gone past the entry that this leader's store has stopped at: it is
// of a version that knows the entry, or has skipped it. Where all have stopped, it makes no difference who leads:
// reads go on, and writes are refused.
func (n *Cluster) yield(ctx context.Context, r *raft.Raft, at fsm.Stop) {
	if r.State() != raft.Leader {
		return
	}
	to := n.survey(ctx).goingOn(n.id, at)
	if to == "" {
		return
	}
	n.log.Warn("this node can't apply an entry of the log and hands leadership over", "to", to)
	transfer := r.LeadershipTransferToServer(raft.ServerID(to), raft.ServerAddress(to))
	if err := within(ctx, membershipTimeout, transfer); err != nil {
		n.log.Warn("leadership could not be handed over", "to", to, "error", err)
	}
}

// goingOn is a voter besides id that follows, and whose store applies and has come to an entry; empty if there is none.
func (s survey) goingOn(id string, at fsm.Stop) string {
	for _, m := range s.members {
		p := s.said[m.ID]
		if m.ID != id && m.Voter && s.follows(m.ID) && p.Halted == "" && p.Applied >= at.Index {
			return m.ID
		}
	}
	return ""
}
