package cluster

import (
	"context"
	"sync"
	"time"

	"coffer/cluster/quorum"
)

const (
	// barrierTimeout is how long a read waits for a leader before it is answered from what is here.
	barrierTimeout = time.Second
	// After a confirmation the next one waits for restPerRead times the reads that it served, at most maxRest: under
	// load more reads share a confirmation, and a lone reader never waits.
	restPerRead = 100 * time.Microsecond
	maxRest     = 2 * time.Millisecond
)

// barrier confirms, for all reads that wait at a moment at once, that this node has applied every write
// that was acknowledged before: the leader confirms with a majority that it still leads, and says how far
// it has applied; this node waits until it is as far. (Raft dissertation, section 6.4, with the
// leader's applied index for its commit index: a write is acknowledged after the leader has applied it.)
type barrier struct {
	n *Cluster
	// Used by the round under way.
	leader  indexClient
	voucher voucher

	mu      sync.Mutex // guards below
	next    *round     // gathers readers while the current round runs
	running bool
	lost    time.Time // since when rounds fail; zero while they succeed
}

type round struct {
	done    chan struct{}
	readers int // guarded by barrier.mu
	index   uint64
	err     error
}

func newBarrier(n *Cluster) *barrier {
	return &barrier{n: n, leader: indexClient{peers: n.peers}, voucher: voucher{follower: indexClient{peers: n.peers}}}
}

// ReadBarrier returns when a read of this node's state sees every write that was acknowledged before the
// call. It fails with [quorum.ErrNoLeader] when no leader says so within a second; when that has been so for a
// second already, it fails at once. It fails with [quorum.ErrBehind] when a leader does and this node lags.
func (n *Cluster) ReadBarrier(ctx context.Context) error {
	if n.leads() && n.alone() {
		return nil // nobody else could have been elected, and what was acknowledged is applied here
	}
	lost := n.barrier.lostFor()
	if lost == 0 {
		if index, err := n.barrier.confirm(ctx); err == nil {
			return n.awaitApplied(ctx, index)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, max(barrierTimeout-lost, barrierTimeout/100))
	defer cancel()
	for {
		if index, err := n.barrier.confirm(ctx); err == nil {
			return n.awaitApplied(ctx, index)
		}
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
			return quorum.ErrNoLeader
		}
	}
}

func (n *Cluster) awaitApplied(ctx context.Context, index uint64) error {
	if n.config.Store.Applied() >= index {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, barrierTimeout)
	defer cancel()
	if n.config.Store.WaitApplied(ctx, index) != nil {
		return quorum.ErrBehind
	}
	return nil
}

// catchUp notes when this node has, for the first time since its start, applied what the leader had. Raft can let a
// node that was away wait for seconds before it sends it anything.
func (n *Cluster) catchUp(ctx context.Context) {
	for n.ReadBarrier(ctx) != nil {
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
			return
		}
	}
	n.caughtUp.Store(true)
}

func (b *barrier) lostFor() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lost.IsZero() {
		return 0
	}
	return time.Since(b.lost)
}

// confirm joins the next round and answers the index that it found.
func (b *barrier) confirm(ctx context.Context) (uint64, error) {
	b.mu.Lock()
	if b.next == nil {
		b.next = &round{done: make(chan struct{})}
	}
	r := b.next
	r.readers++
	if !b.running {
		b.running = true
		go b.run()
	}
	b.mu.Unlock()
	select {
	case <-r.done:
		return r.index, r.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// run serves rounds until nobody waits.
func (b *barrier) run() {
	for {
		b.mu.Lock()
		r := b.next
		b.next = nil
		if r == nil {
			b.running = false
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()

		r.index, r.err = b.n.readIndex()
		b.mu.Lock()
		if r.err == nil {
			b.lost = time.Time{}
		} else if b.lost.IsZero() {
			b.lost = time.Now()
		}
		b.mu.Unlock()
		close(r.done)
		if r.err == nil && r.readers > 1 {
			time.Sleep(min(time.Duration(r.readers)*restPerRead, maxRest))
		}
	}
}

// alone reports whether this node is the only one in the configuration.
func (n *Cluster) alone() bool {
	servers := n.servers()
	return len(servers) == 1 && string(servers[0].ID) == n.id
}

// readIndex asks the leader, which may be this node, how far it has applied.
func (n *Cluster) readIndex() (uint64, error) {
	r := n.raft.Load()
	if r == nil {
		return 0, errNotLeader
	}
	term := r.CurrentTerm()
	if n.leads() {
		index := n.config.Store.Applied()
		if n.vouched(term) {
			return index, nil
		}
		if err := r.VerifyLeader().Error(); err != nil {
			return 0, err
		}
		return index, nil
	}
	leader := n.leader()
	if leader == "" || leader == n.id {
		return 0, errNotLeader
	}
	is, index, err := n.barrier.leader.ask(leader, term, barrierTimeout)
	if err == nil && is != leadsTerm {
		err = errNotLeader
	}
	return index, err
}
