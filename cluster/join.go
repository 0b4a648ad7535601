package cluster

import (
	"context"
	"errors"
	"net/http"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/raft"

	"coffer/fsm"
)

// joinRequest is what a node without data says of itself.
type joinRequest struct {
	RootKeyID string          `cbor:"1,keyasint"`
	Formats   fsm.FormatRange `cbor:"2,keyasint"` // that it works with
}

func (n *Cluster) join(ctx context.Context, through string) error {
	body, err := cbor.Marshal(joinRequest{n.config.RootKeyID(), fsm.Formats()})
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
	n.membership.Lock()
	defer n.membership.Unlock()
	format, err := n.format()
	if err == nil {
		err = req.Formats.Check(format)
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
	case err != nil:
		http.Error(w, err.Error(), http.StatusForbidden)
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
