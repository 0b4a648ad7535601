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

// welcome is what a node that was taken in needs to know before it hears of the leader.
type welcome struct {
	Cluster string   `cbor:"1,keyasint"`
	Term    uint64   `cbor:"2,keyasint"`
	Members []string `cbor:"3,keyasint"`
}

func (n *Cluster) join(ctx context.Context, through string) error {
	body, err := cbor.Marshal(joinRequest{n.config.RootKeyID(), fsm.Formats()})
	if err != nil {
		return err
	}
	var w welcome
	if err := n.call(ctx, through, "/join", body, &w); err != nil {
		var refused *CallError
		if errors.As(err, &refused) && refused.Status == http.StatusForbidden {
			n.log.Error("the cluster refuses this node", "error", err)
		}
		return err
	}
	return n.enter(w)
}

// enter begins to take part in the cluster that has taken this node in.
func (n *Cluster) enter(w welcome) error {
	n.promising.Lock() // no promise is made beside it
	defer n.promising.Unlock()
	if err := n.logs.SetClusterID(w.Cluster); err != nil {
		return err
	}
	n.circle.introduce(w.Members, w.Term)
	return n.startRaft()
}

// handleJoin takes in a node without data as a learner. If it is a member already it has lost its data:
// it is removed first, so that it never counts towards a majority for what it has forgotten.
func (n *Cluster) handleJoin(w http.ResponseWriter, r *http.Request) {
	var req joinRequest
	if err := readCBOR(r, &req); err != nil {
		http.Error(w, "wanted a join request", http.StatusBadRequest)
		return
	}
	release, err := n.holdMembership(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	defer release()
	format, err := n.format()
	if err == nil {
		err = req.Formats.Check(format)
	}
	id, rootKey := callerOf(r).ID, n.config.RootKeyID()
	raftNode, halted := n.raft.Load(), n.config.Store.Halted()
	switch {
	case id == n.id:
		http.Error(w, "this node has the same id: give the new one a certificate of its own", http.StatusForbidden)
		return
	case halted != nil: // an entry behind may raise the format to one that the new node can't read
		http.Error(w, "the region can't apply its log: "+halted.Error(), http.StatusConflict)
		return
	case n.logs.Recovered() > 0: // whoever joined could lead before it has
		http.Error(w, "this node was made the region and has not begun its epoch yet: try again", http.StatusConflict)
		return
	case req.RootKeyID != "" && rootKey != "" && req.RootKeyID != rootKey: // a sealed node can read nothing without
		http.Error(w, "this node has another root key than the cluster: give it the cluster's root key", http.StatusForbidden)
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	if n.isMember(id) {
		if addr := n.stillThere(r.Context(), id); addr != "" {
			n.log.Error("a node without data has the id of a member that answers: the certificate is in use twice",
				"node", id, "from", r.RemoteAddr, "member", addr)
			http.Error(w, "the member with this id is there and has its data: give the new node a certificate of its own",
				http.StatusForbidden)
			return
		}
		n.log.Info("a member returned without its data; taking it in anew", "node", id)
		if err := n.remove(r.Context(), id); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
	}
	added := raftNode.AddNonvoter(raft.ServerID(id), raft.ServerAddress(id), 0, membershipTimeout)
	err = within(r.Context(), membershipTimeout, added)
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	n.log.Warn("a node joins the region: its certificate allows it", "node", id, "from", r.RemoteAddr)
	answer := welcome{Cluster: n.ID(), Term: raftNode.CurrentTerm()}
	for _, s := range n.servers() {
		answer.Members = append(answer.Members, string(s.ID))
	}
	writeCBOR(w, answer)
}

// stillThere is the address at which a member of this cluster answers under the id; empty if there is none. The one
// that wants to join answers too, but is of no cluster.
func (n *Cluster) stillThere(ctx context.Context, id string) string {
	for _, addr := range n.peers.addresses(id) {
		var m membership
		if err := n.callAt(ctx, id, addr, "/membership", nil, &m); err == nil && m.Cluster == n.ID() {
			return addr
		}
	}
	return ""
}
