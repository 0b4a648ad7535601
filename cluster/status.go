package cluster

import (
	"fmt"
	"net/http"

	"github.com/hashicorp/raft"

	"coffer/fsm"
)

// Member is one node of the region.
type Member struct {
	ID       string `json:"id"`
	Voter    bool   `json:"voter"`
	NonVoter bool   `json:"non_voter,omitempty"` // it never wants a vote
	Leader   bool   `json:"leader"`
	Alive    bool   `json:"alive"`
	Peer     string `json:"peer"` // where it was last found, or else where gossip says that it is
	Endpoint string `json:"endpoint"`
	Format   uint64 `json:"newest_format"` // that it works with, as it said itself; 0 before it has been asked
}

// Status is what a node says of itself and its cluster.
type Status struct {
	Node    string   `json:"node"`
	Region  string   `json:"region"`
	State   string   `json:"state"` // leader, follower, candidate, shutdown; "none" before it is a member
	Leader  string   `json:"leader,omitempty"`
	Ready   string   `json:"not_ready_because,omitempty"`
	Term    uint64   `json:"term"`
	Last    uint64   `json:"last_index"`
	Commit  uint64   `json:"commit_index"`
	Applied uint64   `json:"applied_index"`
	Digest  string   `json:"digest"`
	Cluster string   `json:"cluster_id,omitempty"` // of the group of nodes; a restored snapshot does not change it
	Health  Health   `json:"health"`
	Clock   Clock    `json:"clock"`
	Format  uint64   `json:"format,omitempty"` // of the state
	Members []Member `json:"members"`
	// Others are the nodes of other clusters of this region, by the clusters' ids. There should be none.
	Others map[string][]string `json:"other_clusters,omitempty"`
}

// Status describes this node and its cluster.
func (n *Cluster) Status() Status {
	s := Status{
		Node: n.id, Region: n.config.Credentials.Identity.Region, State: "none", Leader: n.leader(), Clock: n.clock(),
	}
	if err := n.Ready(); err != nil {
		s.Ready = err.Error()
	}
	index, digest := n.config.Store.Digest()
	s.Applied, s.Digest = index, fmt.Sprintf("%016x", digest)
	_ = n.config.Store.View(func(tx *fsm.Tx) error { // damage is reported as not ready
		c, _ := tx.Cluster()
		s.Format = c.Format
		return nil
	})
	s.Cluster, s.Others = n.ID(), n.OtherClusters()
	r := n.raft.Load()
	if r == nil {
		return s
	}
	s.State = map[raft.RaftState]string{
		raft.Leader: "leader", raft.Follower: "follower", raft.Candidate: "candidate", raft.Shutdown: "shutdown",
	}[r.State()]
	s.Term, s.Last, s.Commit = r.CurrentTerm(), r.LastIndex(), r.CommitIndex()
	alive := n.gossip.members()
	for _, server := range n.servers() {
		id := string(server.ID)
		m, up := alive[id]
		if !up {
			m, _ = n.gossip.find(id)
		}
		proven, _ := n.book.of(id)
		if proven.Peer == "" {
			proven.Peer = m.Peer
		}
		if id == n.id {
			proven = entry{Peer: m.Peer, Format: fsm.Formats().Newest}
		}
		s.Members = append(s.Members, Member{
			ID: id, Voter: isVoter(server), Leader: id == s.Leader, Alive: up,
			Peer: proven.Peer, Endpoint: m.Endpoint, Format: proven.Format,
		})
	}
	return s
}

// handleStatus describes this node and its cluster, by what all members say of themselves.
func (n *Cluster) handleStatus(w http.ResponseWriter, r *http.Request) {
	s, said := n.Status(), n.survey(r.Context())
	s.Health = said.health()
	for i, m := range s.Members {
		s.Members[i].NonVoter = said.said[m.ID].NonVoter
	}
	writeJSON(w, s)
}

// AtLeader answers with the leader's address, and false, unless this node leads.
func (n *Cluster) AtLeader(w http.ResponseWriter) bool {
	if n.leads() {
		return true
	}
	if leader := n.leader(); leader != "" && leader != n.id {
		if e, ok := n.book.of(leader); ok {
			w.Header().Set(LeaderHeader, e.Peer)
		} else if m, err := n.gossip.find(leader); err == nil {
			w.Header().Set(LeaderHeader, m.Peer)
		}
	}
	http.Error(w, "this node does not lead the region; ask the leader", http.StatusConflict)
	return false
}
