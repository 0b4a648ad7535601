package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/uuid"
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

// form makes this node, which has no data, part of a cluster: of one that it hears of, or of a new one, which the first
// by id of the expected nodes begins once the others promised themselves to it, and which they join. The new cluster
// takes no writes before all expected nodes vote in it (establish).
func (n *Cluster) form(ctx context.Context) {
	ctx, formed := context.WithCancel(ctx)
	defer formed()
	every(ctx, formInterval, func() {
		err := n.tryForm(ctx)
		if err == nil {
			formed()
			return
		}
		text := err.Error()
		if before := n.unformed.Swap(&text); before == nil || *before != text {
			n.log.Info("not part of a cluster yet", "because", text)
		}
	})
}

// tryForm says why this node is not part of a cluster yet; nil if it is now.
func (n *Cluster) tryForm(ctx context.Context) error {
	formed := n.formedNodes(ctx)
	switch ids := slices.Sorted(maps.Keys(formed)); {
	case len(ids) > 1:
		return fmt.Errorf("nodes of %d clusters of this region are there (%s), and this node can't know which one is"+
			" meant: stop one of them", len(ids), strings.Join(ids, ", "))
	case len(ids) == 1:
		return n.joinAny(ctx, ids[0], formed[ids[0]])
	case n.discarded:
		return fmt.Errorf("this node had data and discarded it for a restore, so it joins its region and forms none, and no"+
			" node of it has answered. If none has its data any more, stop this node, move what is in %s back to the data"+
			" directory and see `coffer cluster recover`", abandonedDir)
	case n.config.BootstrapExpect == 0:
		return errors.New("no node of a cluster has answered")
	}
	return n.beginCluster(ctx)
}

// formedNodes are the nodes that prove to be part of a cluster, by the cluster's id.
func (n *Cluster) formedNodes(ctx context.Context) map[string][]string {
	formed := map[string][]string{}
	for id, m := range n.gossip.members() {
		if id == n.id || m.Cluster == "" || m.Cluster == n.ID() { // as it says, which costs no question
			continue
		}
		if said, err := n.askMembership(ctx, id); err == nil && said.Cluster != "" {
			formed[said.Cluster] = append(formed[said.Cluster], id)
		}
	}
	return formed
}

func (n *Cluster) joinAny(ctx context.Context, cluster string, nodes []string) error {
	if err := n.mayJoin(ctx, cluster); err != nil {
		return err
	}
	var failed error
	for _, id := range nodes {
		err := n.join(ctx, id)
		if err == nil {
			n.log.Info("joined the cluster", "cluster", cluster, "through", id)
			return nil
		}
		var refused *CallError
		if failed == nil || errors.As(err, &refused) && refused.Status == http.StatusForbidden { // that says most
			failed = err
		}
	}
	return failed
}

// fresh counts the nodes, this one included, that wait to form a cluster of the same size.
func (n *Cluster) fresh() []string {
	var ids []string
	for id, m := range n.gossip.members() {
		if m.Cluster == "" && m.Expect == n.config.BootstrapExpect {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// knownNodes counts the nodes that this one was told of, by its configuration, itself included.
func (n *Cluster) knownNodes() int {
	known := map[string]bool{}
	for _, addr := range n.config.Join {
		if addr != n.gossip.addr && addr != n.config.GossipAddr && addr != n.config.GossipAdvertise {
			known[addr] = true
		}
	}
	return len(known) + 1
}

// beginCluster begins a new cluster if this is the node to do so, and the others wait for it. Any two groups that may
// form one share a node, since the expected ones are more than half of all that are known, and a node waits for one.
func (n *Cluster) beginCluster(ctx context.Context) error {
	expect, fresh := n.config.BootstrapExpect, n.fresh()
	switch known := n.knownNodes(); {
	case 2*expect <= known:
		return fmt.Errorf("bootstrap-expect is %d and this node knows of %d nodes, itself included: two clusters could form"+
			" side by side. Set it to more than half of them", expect, known)
	case len(fresh) < expect:
		return fmt.Errorf("%d of %d nodes that are to form the cluster have been heard of", len(fresh), expect)
	case fresh[0] != n.id:
		return fmt.Errorf("node %s is to begin the cluster", fresh[0])
	}
	own, err := n.promiseSelf()
	if err != nil {
		return err
	}
	body, err := cbor.Marshal(own)
	if err != nil {
		return err
	}
	granted, refused := 1, error(nil)
	for _, id := range fresh[1:] {
		var ok bool
		if err := n.call(ctx, id, "/promise", body, &ok); err != nil {
			refused = err
			continue
		}
		granted++
	}
	if granted < expect {
		return fmt.Errorf("%d of %d nodes wait for this one to begin the cluster: %w", granted, expect, refused)
	}
	return n.bootstrap(own)
}

func (n *Cluster) bootstrap(own promise) error {
	n.promising.Lock()
	defer n.promising.Unlock()
	if n.logs.Promised() != own.kept() {
		return errors.New("this node has promised itself to another beginner meanwhile")
	}
	if err := n.logs.SetClusterID(own.Cluster); err != nil {
		return err
	}
	self := raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(n.id), Address: raft.ServerAddress(n.id)}}}
	err := raft.BootstrapCluster(n.raftConfig(), n.logs, n.logs, n.snapshots, n.peers.raftTransport(), self)
	if err != nil {
		return err
	}
	n.log.Info("began a new cluster", "cluster", own.Cluster, "expects", n.config.BootstrapExpect)
	return n.startRaft()
}

// promise is what a fresh node waits for: that a beginner begins a cluster of an id that the beginner chose.
type promise struct {
	To      string `cbor:"1,keyasint"`
	Cluster string `cbor:"2,keyasint"`
	Expect  int    `cbor:"3,keyasint"`
}

func (p promise) kept() string { return p.To + " " + p.Cluster }

func readPromise(kept string) (p promise) {
	p.To, p.Cluster, _ = strings.Cut(kept, " ")
	return p
}

// promiseSelf is this node's word to begin the cluster itself, which it gives once.
func (n *Cluster) promiseSelf() (promise, error) {
	n.promising.Lock()
	defer n.promising.Unlock()
	p := readPromise(n.logs.Promised())
	p.Expect = n.config.BootstrapExpect
	switch p.To {
	case n.id:
		return p, nil
	case "":
		p.To, p.Cluster = n.id, uuid.NewString()
		return p, n.logs.SetPromised(p.kept())
	}
	return p, fmt.Errorf(
		"this node has promised to wait for node %s to begin the cluster, and has not heard that it waits"+
			" for another itself. If %s will never return, empty this node's data directory", p.To, p.To)
}

// handlePromise promises this node to a beginner, if it waits for no other.
func (n *Cluster) handlePromise(w http.ResponseWriter, r *http.Request) {
	var asked promise
	if err := readCBOR(r, &asked); err != nil {
		http.Error(w, "wanted a promise", http.StatusBadRequest)
		return
	}
	if _, err := uuid.Parse(asked.Cluster); err != nil || asked.To != callerOf(r).ID {
		http.Error(w, "wanted a promise to the caller", http.StatusBadRequest)
		return
	}
	if asked.Expect != n.config.BootstrapExpect {
		http.Error(w, "this node expects a cluster of another size", http.StatusForbidden)
		return
	}
	before := readPromise(n.logs.Promised())
	err := n.promiseTo(asked, "")
	if errors.Is(err, errPromised) && n.released(r.Context(), before, asked) {
		err = n.promiseTo(asked, before.kept())
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	writeCBOR(w, true)
}

var errPromised = errors.New("this node waits for another one to begin the cluster")

// promiseTo keeps a promise, in place of one that was released.
func (n *Cluster) promiseTo(asked promise, released string) error {
	n.promising.Lock()
	defer n.promising.Unlock()
	if n.raft.Load() != nil {
		return errors.New("this node is part of a cluster")
	}
	switch kept := readPromise(n.logs.Promised()); {
	case kept.To == "" || kept.kept() == asked.kept():
	case kept.To == n.id && asked.To < n.id: // it has not begun, and yields to the one that goes first
	case kept.kept() == released:
	default:
		return fmt.Errorf("%w: %s", errPromised, kept.To)
	}
	return n.logs.SetPromised(asked.kept())
}

// released reports whether the beginner that this node waits for will not begin its cluster any more: it waits for the
// asked one itself, or has become part of the asked one's cluster.
func (n *Cluster) released(ctx context.Context, kept, asked promise) bool {
	if kept.To == n.id || kept.To == "" {
		return false
	}
	m, err := n.askMembership(ctx, kept.To)
	return err == nil && (m.Cluster == asked.Cluster || m.Cluster == "" && m.Promised == asked.kept())
}

// mayJoin says why this node can't join a cluster: it promised to wait for another one.
func (n *Cluster) mayJoin(ctx context.Context, cluster string) error {
	kept := readPromise(n.logs.Promised())
	if kept.To == "" || kept.To == n.id || kept.Cluster == cluster || n.released(ctx, kept, promise{Cluster: cluster}) {
		return nil
	}
	return fmt.Errorf("this node waits for node %s to begin cluster %s, and there is another one of this region, %s: "+
		"if that"+
		" one is meant, empty this node's data directory", kept.To, kept.Cluster, cluster)
}

// awaitVoters waits until the expected nodes vote in a cluster that has no state yet.
func (n *Cluster) awaitVoters(ctx context.Context, r *raft.Raft) error {
	formed := false
	err := n.config.Store.View(func(tx *fsm.Tx) error { // entries of Raft's own, such as configurations, are no state
		_, formed = tx.Cluster()
		return nil
	})
	if formed || err != nil {
		return err
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
