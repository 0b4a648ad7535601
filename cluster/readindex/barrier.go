package readindex

import (
	"context"
	"errors"
	"sync"
	"time"

	"coffer/cluster/quorum"
)

// Node is what a barrier has to know of the node that it serves. Its methods are called from any goroutine and do not
// block, except WaitApplied.
type Node interface {
	// Term is the node's current term, 0 before it is a member. It has risen before the node votes.
	Term() uint64
	// Leads is the term in which this node leads, has committed and has applied all that was committed before; 0 if
	// it does not.
	Leads() uint64
	// Leader is the id of the region's leader as far as this node knows, empty if it knows none.
	Leader() string
	// Members are Raft's latest configuration, uncommitted included.
	Members() quorum.Configuration
	// Applied is the index of the last entry that was applied here.
	Applied() uint64
	// WaitApplied waits until the entry at index is applied.
	WaitApplied(ctx context.Context, index uint64) error
}

// Config of a barrier.
type Config struct {
	Self string // id of the node
	Node Node
	Dial Dial // to another node, for Protocol
	// Cluster is the id of the cluster that the node is in, all zeros before it is in one.
	Cluster func() ClusterID
	// Timeout is how long a read waits for a leader, and a round for its voters; DefaultTimeout if 0.
	Timeout time.Duration
}

// DefaultTimeout is how long a read waits for a leader before it is answered from what is here.
const DefaultTimeout = time.Second

const (
	retryAfter = 25 * time.Millisecond
	// After a round the next one waits for restPerRead times the reads that it served, at most maxRest: under load more
	// reads share a round, and a lone reader never waits.
	restPerRead = 100 * time.Microsecond
	maxRest     = 2 * time.Millisecond
)

var (
	errNotLeader = errors.New("not the leader")
	errRefused   = errors.New("a voter is in a later term")
	errSilent    = errors.New("no majority of the voters answered in time")
)

// Barrier confirms, for all reads that wait at a moment at once, that this node has applied every write that was
// acknowledged before they began. (Raft dissertation, section 6.4, with the leader's applied index for its commit
// index: a write is acknowledged after the leader has applied it.)
type Barrier struct {
	Config
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	ended  sync.WaitGroup

	// Used by the round under way.
	leader connection
	lines  map[string]*openLine
	number uint64 // of the last round

	mu      sync.Mutex // guards below
	next    []*waiter  // for the next round
	running bool
	lost    time.Time // since when rounds fail; zero while they succeed
	failed  time.Time // when the last one did
	fresh   Confirmation
}

type openLine struct {
	*line
	stop context.CancelFunc
}

// Confirmation is a round that a leader's majority confirmed, and that counts at this node since it has applied Index.
type Confirmation struct {
	Began time.Time // the state here has every write that was acknowledged before
	Index uint64
}

// waiter is those who wait for a round with the same question: all readers at this node, or another node.
type waiter struct {
	question quorum.Question
	readers  int // guarded by Barrier.mu until the round begins
	done     chan struct{}
	began    time.Time
	index    uint64
	err      error
}

func (w *waiter) finish(index uint64, err error) {
	w.index, w.err = index, err
	close(w.done)
}

// New makes a barrier. Close ends it.
func New(c Config) *Barrier {
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	b := &Barrier{Config: c, leader: connection{dial: c.Dial}, lines: map[string]*openLine{}}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// Close ends what is under way and closes the connections. Nothing may be asked of the barrier any more.
func (b *Barrier) Close() {
	b.mu.Lock()
	b.cancel() // no round begins from here on
	b.mu.Unlock()
	b.ended.Wait()
	b.leader.close()
}

// Wait returns when a read of this node's state sees every write that was acknowledged before the call. It fails with
// [quorum.ErrNoLeader] when no leader says so in time; when that has been so for as long already, it fails at once. It
// fails with [quorum.ErrBehind] when a leader does and this node lags.
func (b *Barrier) Wait(ctx context.Context) error {
	began := time.Now()
	if index, ok := b.atOnce(quorum.Question{From: b.Self}); ok { // it is the only voter
		b.confirm(Confirmation{began, index})
		return nil
	}
	lost := b.lostFor()
	if lost == 0 {
		if w, err := b.join(ctx, quorum.Question{From: b.Self}); err == nil {
			return b.awaitApplied(ctx, w)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, max(b.Timeout-lost, b.Timeout/100))
	defer cancel()
	for {
		if w, err := b.join(ctx, quorum.Question{From: b.Self}); err == nil {
			return b.awaitApplied(ctx, w)
		}
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
			return quorum.ErrNoLeader
		}
	}
}

// awaitApplied waits until this node is as far as a round demands.
func (b *Barrier) awaitApplied(ctx context.Context, w *waiter) error {
	if b.Node.Applied() < w.index {
		ctx, cancel := context.WithTimeout(ctx, b.Timeout)
		defer cancel()
		if b.Node.WaitApplied(ctx, w.index) != nil {
			return quorum.ErrBehind
		}
	}
	b.confirm(Confirmation{w.began, w.index})
	return nil
}

func (b *Barrier) confirm(c Confirmation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.Began.After(b.fresh.Began) {
		b.fresh = c
	}
}

// Confirmed is the newest confirmation, zero if there was none yet.
func (b *Barrier) Confirmed() Confirmation {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fresh
}

// lostFor is how long rounds have been failing. A failure that is older than a round may take says nothing of now.
func (b *Barrier) lostFor() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lost.IsZero() || time.Since(b.failed) > 2*b.Timeout {
		return 0
	}
	return time.Since(b.lost)
}

// join waits for the next round, with all others that ask the same.
func (b *Barrier) join(ctx context.Context, q quorum.Question) (*waiter, error) {
	b.mu.Lock()
	var w *waiter
	for _, other := range b.next {
		if other.question == q {
			w = other
		}
	}
	if w == nil {
		w = &waiter{question: q, done: make(chan struct{})}
		b.next = append(b.next, w)
	}
	w.readers++
	if !b.running && b.ctx.Err() == nil {
		b.running = true
		b.ended.Go(b.run)
	}
	b.mu.Unlock()
	select {
	case <-w.done:
		return w, w.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-b.ctx.Done():
		return nil, b.ctx.Err()
	}
}

// run serves rounds until nobody waits.
func (b *Barrier) run() {
	for {
		b.mu.Lock()
		waiting := b.next
		b.next = nil
		if len(waiting) == 0 || b.ctx.Err() != nil {
			b.running = false
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()

		readers, err := b.round(waiting)
		b.note(err)
		if err == nil && readers > 1 {
			time.Sleep(min(time.Duration(readers)*restPerRead, maxRest))
		}
	}
}

// note keeps since when rounds fail.
func (b *Barrier) note(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	switch {
	case err == nil:
		b.lost = time.Time{}
	case b.lost.IsZero() || now.Sub(b.failed) > 2*b.Timeout:
		b.lost, b.failed = now, now
	default:
		b.failed = now
	}
}

// round serves those who wait, as the leader or by asking it.
func (b *Barrier) round(waiting []*waiter) (readers int, err error) {
	began := time.Now()
	for _, w := range waiting {
		w.began = began
		readers += w.readers
	}
	if term := b.Node.Leads(); term != 0 {
		return readers, b.lead(term, waiting)
	}
	index, err := b.askLeader()
	for _, w := range waiting {
		if w.question.From != b.Self {
			w.finish(0, errNotLeader) // it asked a leader; it will ask another
			continue
		}
		w.finish(index, err)
	}
	return readers, err
}

// askLeader asks the leader how far this node must have applied.
func (b *Barrier) askLeader() (uint64, error) {
	leader := b.Node.Leader()
	if leader == "" || leader == b.Self {
		return 0, errNotLeader
	}
	if b.leader.node != leader {
		b.leader.close()
		b.leader.node = leader
	}
	b.number++
	q := question{askIndex, b.Cluster(), b.Node.Term(), b.number}
	a, err := b.leader.ask(b.ctx, q, time.Now().Add(b.Timeout))
	if err == nil && !a.granted {
		err = errNotLeader
	}
	return a.index, err
}
