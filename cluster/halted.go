package cluster

import (
	"context"
	"time"

	"github.com/hashicorp/raft"
)

// haltedPause is how long a leader whose store has stopped applying waits before it looks for another one again.
const haltedPause = time.Second

// yieldWhenHalted hands leadership over, once a term, when this node's store has stopped applying and another voter's
// has not: that one is of a version that knows the entry, or was told to skip it. Where all have stopped, it makes no
// difference who leads: reads go on, and writes are refused.
func (n *Cluster) yieldWhenHalted(ctx context.Context) {
	yielded := uint64(0)
	for {
		select {
		case <-time.After(haltedPause):
		case <-ctx.Done():
			return
		}
		term := n.LeaderTerm()
		if n.config.Store.Halted() == nil || term == 0 || term == yielded {
			continue
		}
		to := n.survey(ctx).goingOn(n.id)
		if to == "" {
			continue
		}
		yielded = term
		n.log.Warn("this node can't apply an entry of the log and hands leadership over", "to", to)
		transfer := n.raft.Load().LeadershipTransferToServer(raft.ServerID(to), raft.ServerAddress(to))
		if err := within(ctx, membershipTimeout, transfer); err != nil {
			n.log.Warn("leadership could not be handed over", "to", to, "error", err)
		}
	}
}

// goingOn is a voter besides id that follows and whose store applies; empty if there is none.
func (s survey) goingOn(id string) string {
	for _, m := range s.members {
		if m.ID != id && m.Voter && s.follows(m.ID) && s.said[m.ID].Halted == "" {
			return m.ID
		}
	}
	return ""
}
