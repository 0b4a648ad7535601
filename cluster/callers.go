package cluster

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"coffer/cluster/pki"
	"coffer/fsm"
)

// Caller is who may make a call.
type Caller int

// The callers. A node's certificate alone makes its holder a stranger: what a node may do follows from its place in the
// region's current configuration.
const (
	Strangers Caller = iota + 1 // any node of the region: one that wants to join, or was removed
	Members                     // nodes in Raft's current configuration
	TheLeader                   // the member that this node follows, in the current term
	Operators
)

// ClusterHeader carries the id of a calling node's cluster.
const ClusterHeader = "X-Coffer-Cluster"

// mayCall says why the caller of r, who must be one of from, is refused; nil if it is not.
func (n *Cluster) mayCall(r *http.Request, from []Caller) error {
	who := callerOf(r)
	if who.Role == pki.Operator {
		if slices.Contains(from, Operators) {
			return nil
		}
		return fmt.Errorf("the certificate of operator %s does not allow this: it is a call of nodes", who.ID)
	}
	if who.Role != pki.Node {
		return fmt.Errorf("the certificate of %s %s does not allow this", who.Role, who.ID)
	}
	if slices.Contains(from, Strangers) {
		return nil
	}
	if err := n.sameCluster(r.Header.Get(ClusterHeader)); err != nil {
		return err
	}
	if slices.Contains(from, TheLeader) && who.ID != n.leader() && !slices.Contains(from, Members) {
		return fmt.Errorf("only the leader may ask this, and node %s is not the one that this node follows", who.ID)
	}
	if slices.Contains(from, TheLeader) || slices.Contains(from, Members) {
		return n.circle.trusts(r.Context(), who.ID)
	}
	return fmt.Errorf("the certificate of node %s does not allow this: it is an operator's call", who.ID)
}

// sameCluster refuses what comes from a node of another cluster than this node's.
func (n *Cluster) sameCluster(id string) error {
	switch own := n.logs.ClusterID(); {
	case n.raft.Load() == nil:
		return fmt.Errorf("node %s is not part of a cluster yet", n.id)
	case id != own:
		return fmt.Errorf("node %s is of cluster %s, the caller of cluster %q: the two must not be mixed; if one of them"+
			" was formed by mistake, empty the data directories of its nodes", n.id, own, id)
	}
	return nil
}

// ID is the id of the cluster that this node is part of: made when the cluster was formed, kept beside Raft's term. It
// is empty before this node is part of one.
func (n *Cluster) ID() string {
	if n.raft.Load() == nil {
		return ""
	}
	return n.logs.ClusterID()
}

// membership is what a node says of its place to whoever has a node's certificate of the region.
type membership struct {
	Cluster  string          `cbor:"1,keyasint"`           // empty before it is part of one
	Log      logEnd          `cbor:"2,keyasint,omitempty"` // at least when Members were read
	Members  map[string]bool `cbor:"3,keyasint,omitempty"` // by id, whether it votes
	Format   uint64          `cbor:"4,keyasint"`           // newest that it works with
	Promised string          `cbor:"5,keyasint,omitempty"` // while it is part of no cluster
}

func (n *Cluster) place() membership {
	m := membership{Cluster: n.ID(), Format: fsm.Formats().Newest}
	if m.Cluster == "" {
		m.Promised = n.logs.Promised()
		return m
	}
	m.Log, m.Members = n.logEnd(), map[string]bool{} // in this order, so that Members are not older
	for _, s := range n.servers() {
		m.Members[string(s.ID)] = isVoter(s)
	}
	return m
}

func (n *Cluster) handleMembership(w http.ResponseWriter, _ *http.Request) {
	writeCBOR(w, n.place())
}

// askMembership asks a node for its place, and notes what that proves.
func (n *Cluster) askMembership(ctx context.Context, id string) (m membership, err error) {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	if err := n.call(ctx, id, "/membership", nil, &m); err != nil {
		return m, err
	}
	n.book.note(id, func(e *entry) { e.Format, e.Cluster = m.Format, m.Cluster })
	return m, nil
}
