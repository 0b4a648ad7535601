package replication

import (
	"context"
	"crypto/hpke"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"coffer/cluster"
	"coffer/fsm"
	"coffer/mistake"
)

// Bounds of what a courier has under way and in memory. What is beyond them waits in the outbox.
const (
	batchMessages   = 64
	batchContent    = 1 << 20 // bytes of values
	batchesInFlight = 4
	noticed         = 4096 // keys that are remembered as changed
	refusedKept     = 4096 // refused links whose next attempt is remembered
)

// How long things take at most, and how often they are done.
const (
	callTimeout   = 10 * time.Second
	helloTimeout  = 3 * time.Second
	helloInterval = 5 * time.Second
	// while a batch is under way, the next one gathers: its cost is shared by more changes
	gatherTime     = 3 * time.Millisecond
	walkInterval   = 2 * time.Second  // looks for entries that nobody noticed, or whose next attempt is due
	downAfter      = 10 * time.Second // from then on an unreachable region's links are Failed
	regionBackoff  = 100 * time.Millisecond
	regionMaxWait  = 3 * time.Second
	refusalBackoff = 500 * time.Millisecond
	refusalMaxWait = 15 * time.Second
)

// courier carries what the outbox has for one region, in one term of this region's leader.
type courier struct {
	a      *Agent
	region string
	term   uint64
	log    *slog.Logger
	wake   chan struct{}
	slots  chan struct{}
	busy   sync.WaitGroup

	end func() // ends run, and everything that it began

	// Used by run alone.
	walked  time.Time // when the last walk ended
	cursor  string    // of the walk under way
	walking bool
	greeted time.Time

	suspects map[string]uint64 // link -> revision that differed when the regions were last compared; used by compare alone

	mu        sync.Mutex // guards below
	changed   []string   // keys that are to be sent, in the order in which they changed
	queued    map[string]bool
	missed    bool            // more changed than is remembered: walk
	inFlight  map[string]bool // key -> it has changed since
	refused   map[string]attempt
	answered  []*parcel // that are about to be settled
	comparing bool
	compareAt time.Time // when the regions are compared next
	failing   int       // calls that failed since the last success
	failedAt  time.Time // the first of them
	key       hpke.PublicKey
	keyID     string
}

// attempt is when a refused link is tried again.
type attempt struct {
	refusals int
	next     time.Time
}

func newCourier(a *Agent, region string, term uint64) *courier {
	return &courier{
		a: a, region: region, term: term, log: a.log.With("to_region", region),
		wake: make(chan struct{}, 1), slots: make(chan struct{}, batchesInFlight),
		suspects: map[string]uint64{}, queued: map[string]bool{}, inFlight: map[string]bool{}, refused: map[string]attempt{},
		missed: true, // what is in the outbox already
		end:    func() {},
	}
}

// notice remembers that an entry has changed.
func (c *courier) notice(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, sending := c.inFlight[key]; sending {
		c.inFlight[key] = true
		return
	}
	c.enqueue(key)
}

// lookAgain has the outbox looked through from its beginning.
func (c *courier) lookAgain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.missed = true
	c.poke()
}

// enqueue has an entry sent soon. The caller holds mu.
func (c *courier) enqueue(key string) {
	switch {
	case c.queued[key]:
	case len(c.changed) >= noticed:
		c.missed = true
	default:
		c.changed = append(c.changed, key)
		c.queued[key] = true
	}
	c.poke()
}

func (c *courier) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run sends until ctx ends. It waits for what is under way.
func (c *courier) run(ctx context.Context) {
	ctx, c.end = context.WithCancel(ctx)
	defer c.end()
	defer c.busy.Wait()
	for ctx.Err() == nil {
		if time.Since(c.greeted) > helloInterval || c.publicKey() == nil {
			if err := c.greet(ctx); err != nil {
				c.fail(ctx, err)
			} else {
				c.succeed(ctx)
				c.greeted = time.Now()
			}
		}
		if wait := c.backoff(); wait > 0 {
			c.rest(ctx, wait)
			continue
		}
		if c.publicKey() != nil && c.beginComparison() {
			c.begin(func() {
				c.compare(ctx)
				c.endComparison()
			})
		}
		if len(c.slots) > 0 {
			c.rest(ctx, gatherTime)
		}
		keys, err := c.next()
		if err != nil {
			c.log.Warn("the outbox can't be read", "error", err)
			c.rest(ctx, regionMaxWait)
			continue
		}
		if len(keys) == 0 {
			select {
			case <-c.wake:
			case <-time.After(min(walkInterval, helloInterval)):
			case <-ctx.Done():
			}
			continue
		}
		select {
		case c.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		c.begin(func() {
			defer func() { <-c.slots }()
			c.deliver(ctx, keys)
		})
	}
}

// begin begins a part of the courier's work. What the courier knows of what is under way is no longer true after a
// mistake in the code: it ends then, and another begins anew.
func (c *courier) begin(part func()) {
	c.busy.Go(func() {
		err := mistake.Catch(c.log, "sending to a region failed by a mistake in the code", func() error {
			part()
			return nil
		})
		if err != nil {
			c.end()
		}
	})
}

func (c *courier) rest(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// next chooses what to send now: what has changed, or else what a walk of the outbox finds. The keys are in flight
// then.
func (c *courier) next() ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var keys []string
	for len(c.changed) > 0 && len(keys) < batchMessages {
		key := c.changed[0]
		c.changed = c.changed[1:]
		delete(c.queued, key)
		if _, sending := c.inFlight[key]; sending {
			c.inFlight[key] = true
			continue
		}
		c.inFlight[key] = false
		keys = append(keys, key)
	}
	if len(keys) > 0 {
		return keys, nil
	}
	if !c.walking {
		if !c.missed && time.Since(c.walked) < walkInterval {
			return nil, nil
		}
		c.walking, c.missed, c.cursor = true, false, ""
	}
	now := time.Now()
	more := false
	err := c.a.base.Store.View(func(tx *fsm.Tx) error {
		tx.Outbox(c.region, c.cursor, func(e fsm.OutboxEntry) bool {
			if len(keys) == batchMessages {
				more = true
				return false
			}
			c.cursor = e.Key
			if _, sending := c.inFlight[e.Key]; !sending && !c.refused[e.Key].next.After(now) {
				keys = append(keys, e.Key)
			}
			return true
		})
		return nil
	})
	if !more {
		c.walking, c.walked = false, now
	}
	for _, key := range keys {
		c.inFlight[key] = false
	}
	return keys, err
}

// done ends the flight of keys. One that has changed meanwhile is sent again.
func (c *courier) done(keys []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range keys {
		if c.inFlight[key] {
			c.enqueue(key)
		}
		delete(c.inFlight, key)
	}
	c.poke()
}

// postpone notes a refusal: the entry is tried again later, and later each time.
func (c *courier) postpone(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.refused) >= refusedKept {
		clear(c.refused) // they are tried sooner than they should be
	}
	at := c.refused[key]
	at.next = time.Now().Add(jittered(backoff(refusalBackoff, refusalMaxWait, at.refusals)))
	at.refusals++
	c.refused[key] = at
}

func (c *courier) accepted(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.refused, key)
}

func backoff(first, most time.Duration, attempts int) time.Duration {
	return min(first<<min(attempts, 20), most)
}

func jittered(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// fail notes a call that failed. When calls have failed for a while, the region is recorded as not reachable.
func (c *courier) fail(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	c.a.metrics.failed(c.region, "unreachable")
	c.mu.Lock()
	if c.failing == 0 {
		c.failedAt = time.Now()
	}
	c.failing++
	since := c.failedAt
	c.mu.Unlock()
	c.log.Debug("the region could not be reached", "error", err)
	if time.Since(since) > downAfter {
		c.record(ctx, func(p *fsm.Peer) {
			if p.Down == 0 {
				p.Down, p.Why = since.UnixMilli(), reason(err)
				c.log.Warn("the region can't be replicated to", "since", since, "error", err)
			}
		})
	}
}

// reason is an error as clients may see it.
func reason(err error) string {
	var refused *cluster.CallError
	switch {
	case errors.As(err, &refused):
		return refused.Message
	case errors.Is(err, errNotTrusted):
		return errNotTrusted.Error()
	case errors.Is(err, cluster.ErrNoRegion):
		return cluster.ErrNoRegion.Error()
	}
	return "its nodes don't answer"
}

func (c *courier) succeed(ctx context.Context) {
	c.mu.Lock()
	failing := c.failing
	c.failing = 0
	c.mu.Unlock()
	if failing > 0 || c.greeted.IsZero() {
		c.record(ctx, func(p *fsm.Peer) { p.Down, p.Why = 0, "" })
	}
}

// backoff is how long to leave an unreachable region alone.
func (c *courier) backoff() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failing == 0 {
		return 0
	}
	return jittered(backoff(regionBackoff, regionMaxWait, c.failing-1))
}

// record changes what is stored of the region, if that changes anything.
func (c *courier) record(ctx context.Context, change func(*fsm.Peer)) {
	var before fsm.Peer
	err := c.a.base.Store.View(func(tx *fsm.Tx) error {
		before = tx.Peer(c.region)
		return nil
	})
	if err != nil {
		return // damage is reported by the store
	}
	p := before
	change(&p)
	if p.Down == before.Down && p.KeyID == before.KeyID && p.Epoch == before.Epoch {
		return
	}
	command := &fsm.SetPeer{
		Region: c.region, At: c.a.base.Millis(), KeyID: p.KeyID, Public: p.Public, Epoch: p.Epoch, Down: p.Down, Why: p.Why,
	}
	if _, err := c.a.base.Propose(ctx, command); err != nil {
		c.log.Debug("what is known of the region could not be recorded", "error", err)
	}
}

// errNotTrusted says that a region has another key than before and can't prove that it is still itself.
var errNotTrusted = errors.New("it has another replication key than before, and does not prove that it had the old " +
	"one: if it was formed anew, accept it with `coffer regions trust`")

// greet asks the region for its public key and epoch, and tells it how much waits here.
func (c *courier) greet(ctx context.Context) error {
	var pinned fsm.Peer
	question := &hello{}
	err := c.a.base.Store.View(func(tx *fsm.Tx) error {
		pinned = tx.Peer(c.region)
		question.Report = report(tx, c.region, c.a.base.Millis())
		return nil
	})
	if err != nil {
		return err
	}
	var expected []byte
	if pinned.Public != nil {
		question.KeyID = pinned.KeyID
		if question.Challenge, expected, err = challenge(pinned.Public, c.a.base.Region, c.region); err != nil {
			return err
		}
	}
	answer := &welcome{}
	if err := c.a.cluster.CallRegion(ctx, c.region, helloPath, helloTimeout, question, answer); err != nil {
		return err
	}
	if pinned.Public != nil && !authentic(answer, expected) {
		return fmt.Errorf("the region %s: %w", c.region, errNotTrusted)
	}
	key, err := kem.NewPublicKey(answer.Public)
	if err != nil {
		return fmt.Errorf("the public key of region %s: %w", c.region, err)
	}
	c.mu.Lock()
	c.key, c.keyID = key, answer.KeyID
	c.mu.Unlock()
	c.record(ctx, func(p *fsm.Peer) { p.KeyID, p.Public, p.Epoch = answer.KeyID, answer.Public, answer.Epoch })
	return nil
}

func (c *courier) publicKey() hpke.PublicKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.key
}

// report is what this region says of its outbox to region.
func report(tx *fsm.Tx, region string, now int64) fsm.Report {
	r := fsm.Report{At: now}
	tx.Outbox(region, "", func(e fsm.OutboxEntry) bool {
		if e.Lag == nil {
			return true
		}
		r.Lagging++
		if r.Oldest == 0 || e.Lag.Since < r.Oldest {
			r.Oldest = e.Lag.Since
		}
		return true
	})
	return r
}
