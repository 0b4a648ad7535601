package cluster

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/raft"

	"coffer/cluster/pki"
	"coffer/fsm"
)

// maxCall bounds the body of a call between nodes: a batch of the largest commands.
const maxCall = 64 << 20

// LeaderHeader tells an operator's client the peer address of the leader that can do what this node can't.
const LeaderHeader = "X-Coffer-Leader"

// Call is something that a peer port answers to callers whose certificates have one of Roles. Pattern is that of
// http.ServeMux.
type Call struct {
	Pattern string
	Roles   []pki.Role
	Do      func(*Cluster, http.ResponseWriter, *http.Request)
}

// calls is what a peer port answers: to nodes, and to operators, who may do what they ask for on purpose.
func (n *Cluster) calls() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, do http.HandlerFunc, roles ...pki.Role) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			caller := callerOf(r)
			if slices.Contains(roles, caller.Role) {
				do(w, r)
				return
			}
			http.Error(w, fmt.Sprintf("the certificate of %s %s does not allow this", caller.Role, caller.ID), http.StatusForbidden)
		})
	}
	handle("POST /propose", n.handlePropose, pki.Node)
	handle("POST /join", n.handleJoin, pki.Node)
	handle("POST /progress", n.handleProgress, pki.Node)
	handle("POST /checkpoint", n.handleCheckpoint, pki.Node)
	handle("POST /damaged", n.handleDamaged, pki.Node)
	handle("GET /status", n.handleStatus, pki.Node, pki.Operator)
	handle("POST /remove", n.handleRemove, pki.Operator)
	handle("POST /transfer-leader", n.handleTransfer, pki.Operator)
	handle("POST /verify", n.handleVerify, pki.Operator)
	handle("GET /snapshot", n.handleSnapshot, pki.Operator)
	handle("POST /restore", n.handleRestore, pki.Operator)
	for _, c := range n.config.Calls {
		handle(c.Pattern, func(w http.ResponseWriter, r *http.Request) { c.Do(n, w, r) }, c.Roles...)
	}
	return mux
}

func callerOf(r *http.Request) pki.Identity {
	id, err := pki.IdentityOf(r.TLS.PeerCertificates[0])
	if err != nil {
		return pki.Identity{}
	}
	return id
}

func isNode(state tls.ConnectionState) bool {
	id, err := pki.IdentityOf(state.PeerCertificates[0])
	return err == nil && id.Role == pki.Node
}

func readCBOR(r *http.Request, into any) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxCall))
	if err != nil {
		return err
	}
	return cbor.Unmarshal(body, into)
}

func writeCBOR(w http.ResponseWriter, v any) {
	b, err := cbor.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(b) // a caller that has gone asks again
}

func newStdLog(l *slog.Logger) *log.Logger { return slog.NewLogLogger(l.Handler(), slog.LevelDebug) }

// Member is one node of the region.
type Member struct {
	ID       string `json:"id"`
	Voter    bool   `json:"voter"`
	Leader   bool   `json:"leader"`
	Alive    bool   `json:"alive"`
	Peer     string `json:"peer"`
	Endpoint string `json:"endpoint"`
	Version  int    `json:"command_version"`
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
	Cluster string   `json:"cluster_id,omitempty"`
	Members []Member `json:"members"`
}

// Status describes this node and its cluster.
func (n *Cluster) Status() Status {
	s := Status{Node: n.id, Region: n.config.Credentials.Identity.Region, State: "none", Leader: n.leader()}
	if err := n.Ready(); err != nil {
		s.Ready = err.Error()
	}
	index, digest := n.config.Store.Digest()
	s.Applied, s.Digest = index, fmt.Sprintf("%016x", digest)
	_ = n.config.Store.View(func(tx *fsm.Tx) error { // damage is reported as not ready
		c, _ := tx.Cluster()
		s.Cluster = c.ID
		return nil
	})
	r := n.raft.Load()
	if r == nil {
		return s
	}
	s.State = map[raft.RaftState]string{raft.Leader: "leader", raft.Follower: "follower", raft.Candidate: "candidate", raft.Shutdown: "shutdown"}[r.State()]
	s.Term, s.Last, s.Commit = r.CurrentTerm(), r.LastIndex(), r.CommitIndex()
	alive := n.gossip.members()
	for _, server := range n.servers() {
		id := string(server.ID)
		m, up := alive[id]
		if !up {
			m, _ = n.gossip.find(id)
		}
		s.Members = append(s.Members, Member{ID: id, Voter: server.Suffrage == raft.Voter, Leader: id == s.Leader, Alive: up, Peer: m.Peer, Endpoint: m.Endpoint, Version: m.Version})
	}
	return s
}

func (n *Cluster) handleStatus(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(n.Status())
}

// AtLeader answers with the leader's address, and false, unless this node leads.
func (n *Cluster) AtLeader(w http.ResponseWriter) bool {
	if n.leads() {
		return true
	}
	if m, err := n.gossip.find(n.leader()); err == nil && n.leader() != n.id {
		w.Header().Set(LeaderHeader, m.Peer)
	}
	http.Error(w, "this node does not lead the region; ask the leader", http.StatusConflict)
	return false
}

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

// handleSnapshot streams the state of this node, behind a read barrier, while writes go on.
func (n *Cluster) handleSnapshot(w http.ResponseWriter, r *http.Request) {
	if err := n.ReadBarrier(r.Context()); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if err := n.config.Store.Save(w); err != nil {
		n.log.Error("a snapshot could not be streamed", "error", err)
		panic(http.ErrAbortHandler) // the client sees a broken stream, not a short one
	}
}

// handleRestore replaces the state of the whole region by an archive, which is verified first.
func (n *Cluster) handleRestore(w http.ResponseWriter, r *http.Request) {
	if !n.AtLeader(w) {
		return
	}
	if err := n.restore(r); err != nil {
		n.log.Error("an archive was not restored", "error", err)
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

func (n *Cluster) restore(r *http.Request) error {
	path := filepath.Join(n.config.Dir, "restore.upload")
	defer os.Remove(path)
	size, err := receive(path, r.Body)
	if err != nil {
		return err
	}
	if err := n.config.CheckRestore(path); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	sum, err := fsm.ReadSnapshot(f, nil)
	if err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	node := n.raft.Load()
	term := n.established.Swap(0) // nobody's reads are confirmed while nodes change over
	defer n.established.CompareAndSwap(0, term)
	meta := &raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Index: sum.Header.Index, Term: sum.Header.Term, Size: size}
	if err := node.Restore(meta, f, time.Minute); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	// An entry after the restored state, so that no node can take itself for up to date without it. Other regions have
	// seen later states, or earlier ones.
	entry := fsm.EncodeEntry([][]byte{fsm.Encode([]byte("restored"), &fsm.BeginEpoch{At: time.Now().UnixMilli()})})
	if err := node.Apply(entry, proposeTimeout).Error(); err != nil {
		return fmt.Errorf("the state was restored, but other regions may not notice: restore it once more: %w", err)
	}
	return nil
}

func receive(path string, body io.Reader) (int64, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	size, err := io.Copy(f, body)
	return size, errors.Join(err, f.Sync(), f.Close())
}

// handleCheckpoint answers this node's digest at a Checkpoint's entry.
func (n *Cluster) handleCheckpoint(w http.ResponseWriter, r *http.Request) {
	var index uint64
	if err := readCBOR(r, &index); err != nil {
		http.Error(w, "wanted an index", http.StatusBadRequest)
		return
	}
	digest, err := n.digestAt(r.Context(), index)
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	writeCBOR(w, digest)
}

func (n *Cluster) digestAt(ctx context.Context, index uint64) (digest uint64, err error) {
	if err := n.config.Store.WaitApplied(ctx, index); err != nil {
		return 0, err
	}
	found := false
	err = n.config.Store.View(func(tx *fsm.Tx) error {
		for _, c := range tx.Checkpoints() {
			if c.Index == index {
				digest, found = c.Digest, true
			}
		}
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("no checkpoint at entry %d", index)
	}
	return digest, err
}

// handleDamaged is the leader's word that this node's state differs from the majority's.
func (n *Cluster) handleDamaged(w http.ResponseWriter, r *http.Request) {
	n.log.Error("the leader found this node's state to differ from the others'", "leader", callerOf(r).ID)
	n.config.OnDamage(fmt.Errorf("%w: the digest of this node's state differs from that of the majority", fsm.ErrDamaged))
	writeCBOR(w, true)
}

func (n *Cluster) handleVerify(w http.ResponseWriter, r *http.Request) {
	if !n.AtLeader(w) {
		return
	}
	report, err := n.CompareDigests(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(report)
}
