package readindex_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coffer/cluster/quorum"
	"coffer/cluster/readindex"
)

// network is barriers of nodes that reach each other over pipes.
type network struct {
	t     *testing.T
	nodes map[string]*node
	ids   []string
	delay func() time.Duration // of each read from a connection

	mu    sync.Mutex // guards below
	down  map[string]bool
	conns map[string][]net.Conn // by both ends
	hold  chan struct{}         // not nil: nothing is read until it is closed
}

// node is a node of Raft as its barrier sees it.
type node struct {
	barrier *readindex.Barrier

	mu      sync.Mutex // guards below
	term    uint64
	leads   uint64
	leader  string
	members quorum.Configuration
	applied uint64
	moved   chan struct{}
}

func (n *node) get(do func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	do()
}

func (n *node) Term() (v uint64)                  { n.get(func() { v = n.term }); return v }
func (n *node) Leader() (v string)                { n.get(func() { v = n.leader }); return v }
func (n *node) Members() (v quorum.Configuration) { n.get(func() { v = n.members }); return v }
func (n *node) Applied() (v uint64)               { n.get(func() { v = n.applied }); return v }
func (n *node) follow(term uint64, leader string) {
	n.get(func() { n.term, n.leads, n.leader = term, 0, leader })
}
func (n *node) configure(c quorum.Configuration) { n.get(func() { n.members = c }) }
func (n *node) Leads() (v uint64) {
	n.get(func() {
		if v = n.leads; n.term != n.leads {
			v = 0
		}
	})
	return v
}

func (n *node) apply(index uint64) {
	n.get(func() {
		if index > n.applied {
			n.applied = index
			close(n.moved)
			n.moved = make(chan struct{})
		}
	})
}

func (n *node) WaitApplied(ctx context.Context, index uint64) error {
	for {
		var have uint64
		var moved chan struct{}
		n.get(func() { have, moved = n.applied, n.moved })
		if have >= index {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// newNetwork makes so many voters, in term 1, of which the first leads, and so many learners.
func newNetwork(t *testing.T, voters, learners int) *network {
	w := &network{t: t, nodes: map[string]*node{}, down: map[string]bool{}, conns: map[string][]net.Conn{}}
	w.delay = func() time.Duration { return 0 }
	var members quorum.Configuration
	for i := range voters + learners {
		id := fmt.Sprint("n", i+1)
		w.ids = append(w.ids, id)
		members = append(members, quorum.Server{ID: id, Voter: i < voters})
	}
	for _, id := range w.ids {
		n := &node{term: 1, leader: "n1", members: members, applied: 10, moved: make(chan struct{})}
		n.barrier = readindex.New(readindex.Config{
			Self: id, Node: n,
			Dial:    func(ctx context.Context, to string) (net.Conn, error) { return w.dial(ctx, id, to) },
			Cluster: func() readindex.ClusterID { return readindex.IDOf("the cluster") },
		})
		w.nodes[id] = n
	}
	w.nodes["n1"].leads = 1
	t.Cleanup(func() { // in the bubble, before it ends
		for _, n := range w.nodes {
			n.barrier.Close()
		}
	})
	return w
}

// held is a connection whose reads take time.
type held struct {
	net.Conn
	w *network
}

func (h held) Read(b []byte) (int, error) {
	n, err := h.Conn.Read(b)
	time.Sleep(h.w.delay())
	h.w.mu.Lock()
	hold := h.w.hold
	h.w.mu.Unlock()
	if hold != nil {
		<-hold
	}
	return n, err
}

func (w *network) dial(ctx context.Context, from, to string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock() // a node is not cut off in between
	if w.down[from] || w.down[to] {
		return nil, errors.New("unreachable")
	}
	a, b := net.Pipe()
	for _, id := range []string{from, to} {
		w.conns[id] = append(w.conns[id], a, b)
	}
	go w.nodes[to].barrier.Serve(context.WithoutCancel(ctx), b, from)
	return held{a, w}, nil
}

// cut makes a node unreachable and ends its connections.
func (w *network) cut(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down[id] = true
	for _, c := range w.conns[id] {
		_ = c.Close()
	}
	w.conns[id] = nil
}

func (w *network) mend(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down[id] = false
}

func (w *network) read(id string) error { return w.nodes[id].barrier.Wait(w.t.Context()) }

func (w *network) want(id string, want error) {
	w.t.Helper()
	if err := w.read(id); !errors.Is(err, want) || want == nil && err != nil {
		w.t.Errorf("a read at %s: %v, wanted %v", id, err, want)
	}
}

// elect makes a node the leader of a term, which so many other voters hear of.
func (w *network) elect(id string, term uint64, hear ...string) {
	for _, other := range hear {
		w.nodes[other].follow(term, id)
	}
	w.nodes[id].follow(term, id)
	w.nodes[id].get(func() { w.nodes[id].leads = term })
}

func bubble(t *testing.T, voters, learners int, do func(*testing.T, *network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { do(t, newNetwork(t, voters, learners)) })
}

// random makes a generator that a failure can be repeated with.
func random(t *testing.T, seed uint64) *rand.Rand {
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}
