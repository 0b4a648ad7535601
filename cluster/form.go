package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sort"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/raft"

	"coffer/fsm"
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

// joinRequest is what a node without data says of itself.
type joinRequest struct {
	RootKeyID string `cbor:"1,keyasint"`
	Version   int    `cbor:"2,keyasint"`
}

func (n *Cluster) join(ctx context.Context, through string) error {
	body, err := cbor.Marshal(joinRequest{n.config.RootKeyID(), fsm.Version})
	if err != nil {
		return err
	}
	var ok bool
	if err := n.call(ctx, through, "/join", body, &ok); err != nil {
		var refused *CallError
		if errors.As(err, &refused) && refused.Status == http.StatusForbidden {
			n.log.Error("the cluster refuses this node", "error", err)
		}
		return err
	}
	snapshots, err := n.snapshotStore()
	if err != nil {
		return err
	}
	return n.startRaft(snapshots)
}

// handleJoin takes in a node without data as a learner. If it is a member already it has lost its data:
// it is removed first, so that it never counts towards a majority for what it has forgotten.
func (n *Cluster) handleJoin(w http.ResponseWriter, r *http.Request) {
	var req joinRequest
	if err := readCBOR(r, &req); err != nil {
		http.Error(w, "wanted a join request", http.StatusBadRequest)
		return
	}
	id, rootKey := callerOf(r).ID, n.config.RootKeyID()
	raftNode := n.raft.Load()
	switch {
	case raftNode == nil || raftNode.State() != raft.Leader:
		http.Error(w, errNotLeader.Error(), http.StatusConflict)
		return
	case req.RootKeyID != "" && rootKey != "" && req.RootKeyID != rootKey: // a sealed node can read nothing until it has the right one
		http.Error(w, "this node has another root key than the cluster: give it the cluster's root key", http.StatusForbidden)
		return
	case req.Version < fsm.Version:
		http.Error(w, fmt.Sprintf("this node applies commands up to version %d, the cluster uses %d: install a newer Coffer", req.Version, fsm.Version), http.StatusForbidden)
		return
	}
	if n.isMember(id) {
		n.log.Info("a member returned without its data; taking it in anew", "node", id)
		if err := raftNode.RemoveServer(raft.ServerID(id), 0, membershipTimeout).Error(); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
	}
	if err := raftNode.AddNonvoter(raft.ServerID(id), raft.ServerAddress(id), 0, membershipTimeout).Error(); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	writeCBOR(w, true)
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
