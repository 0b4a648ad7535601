package cluster

import (
	"context"
	"fmt"
	"net/http"

	"github.com/hashicorp/raft"
)

func (n *Cluster) handleRemove(w http.ResponseWriter, r *http.Request) {
	if !n.AtLeader(w) {
		return
	}
	id := r.URL.Query().Get("id")
	if !n.isMember(id) {
		http.Error(w, fmt.Sprintf("%q is not a member: `coffer cluster members` lists them", id), http.StatusNotFound)
		return
	}
	if err := n.raft.Load().RemoveServer(raft.ServerID(id), 0, membershipTimeout).Error(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

func (n *Cluster) handleTransfer(w http.ResponseWriter, r *http.Request) {
	if !n.AtLeader(w) {
		return
	}
	node := n.raft.Load()
	f := raft.Future(nil)
	if to := r.URL.Query().Get("to"); to == "" {
		f = node.LeadershipTransfer()
	} else if !n.isMember(to) {
		http.Error(w, fmt.Sprintf("%q is not a member: `coffer cluster members` lists them", to), http.StatusNotFound)
		return
	} else {
		f = node.LeadershipTransferToServer(raft.ServerID(to), raft.ServerAddress(to))
	}
	if err := f.Error(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

func (n *Cluster) isMember(id string) bool {
	for _, s := range n.servers() {
		if string(s.ID) == id {
			return true
		}
	}
	return false
}

// promotable is how many entries a learner may lack when it becomes a voter.
const promotable = 64

// promoteLearners makes learners voters when they have caught up, while this node leads.
func (n *Cluster) promoteLearners(ctx context.Context) {
	every(ctx, formInterval, func() {
		r := n.raft.Load()
		if r == nil || r.State() != raft.Leader {
			return
		}
		for _, s := range n.servers() {
			if s.Suffrage == raft.Voter {
				continue
			}
			last := r.LastIndex()
			var p progress
			if err := n.call(ctx, string(s.ID), "/progress", nil, &p); err != nil || p.Last+promotable < last {
				continue
			}
			if err := r.AddVoter(s.ID, s.Address, 0, membershipTimeout).Error(); err != nil {
				n.log.Warn("a learner could not be made a voter", "node", s.ID, "error", err)
				continue
			}
			n.log.Info("a learner has caught up and is a voter now", "node", s.ID)
		}
	})
}

// progress is how far a node's log and state are.
type progress struct {
	Last    uint64 `cbor:"1,keyasint"`
	Applied uint64 `cbor:"2,keyasint"`
}

func (n *Cluster) handleProgress(w http.ResponseWriter, _ *http.Request) {
	r := n.raft.Load()
	if r == nil {
		http.Error(w, "not a member yet", http.StatusConflict)
		return
	}
	writeCBOR(w, progress{r.LastIndex(), n.config.Store.Applied()})
}
