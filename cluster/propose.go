package cluster

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/raft"

	"coffer/cluster/quorum"
	"coffer/fsm"
	"coffer/mistake"
)

// errNotMade says that a proposal is in no log and will not be.
var errNotMade = errors.New("the command was not proposed")

// errNotLeader says that what a leader does was asked of a node that does not lead.
var errNotLeader = errors.New("not the leader")

const retryAfter = 25 * time.Millisecond

// A batch is as many waiting commands as fit into one log entry. While batchesInFlight of them are under
// way, commands gather for the next: while one is, on a busy node that does not lead. (fsm.Window is computed from how
// long proposals are tried and batchesInFlight.)
const (
	batchCommands   = 256
	batchBytes      = 128 << 10
	batchesInFlight = 2
	// After a batch of at least busyBatch commands the next one gathers for gatherTime: the cost of a log entry
	// (three nodes' disks, the messages) is shared by more commands, and under such load nobody waits longer for it.
	busyBatch      = 4
	gatherTime     = 3 * time.Millisecond
	queuedCommands = 1024
)

type proposal struct {
	ctx       context.Context // of who waits for it
	command   []byte
	forwarded bool // came from another node: it is proposed here or not at all
	result    chan proposed
}

type proposed struct {
	outcome fsm.Outcome
	err     error
}

// proposer gathers commands into batches and brings them to the leader.
type proposer struct {
	propose func(ctx context.Context, batch []*proposal) ([]proposed, error)
	leads   func() bool
	log     *slog.Logger
	queue   chan *proposal
	expired atomic.Uint64 // proposals that nobody waited for any more when it was their turn
}

func newProposer(
	propose func(context.Context, []*proposal) ([]proposed, error), leads func() bool, log *slog.Logger,
) *proposer {
	return &proposer{propose: propose, leads: leads, log: log, queue: make(chan *proposal, queuedCommands)}
}

// Proposals returns how many proposals wait on this node, and how many were dropped since nobody waited for them any
// more.
func (n *Cluster) Proposals() (waiting int, expired uint64) {
	return len(n.proposer.queue), n.proposer.expired.Load()
}

// live reports whether somebody waits for a proposal. Those that nobody waits for are dropped: what a queue works
// off after a stall is what is asked for now.
func (p *proposer) live(q *proposal) bool {
	if q.ctx.Err() == nil {
		return true
	}
	p.expired.Add(1)
	return false
}

// Propose replicates a command (fsm.Encode) and waits until the leader has applied it. A command whose
// fate is unknown, because the leader was lost meanwhile, is proposed again under the same id until
// the context ends, or for so long that an election fits; the error is then [quorum.ErrUnavailable]. So it is where a
// later copy was refused, since the earlier one may yet be carried out. It is [quorum.ErrRefused] for what is no
// command, and [quorum.ErrHalted] where the leader can't go on.
func (n *Cluster) Propose(ctx context.Context, command []byte) (fsm.Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, n.timing.propose)
	defer cancel()
	return n.proposer.settle(ctx, command)
}

func (p *proposer) settle(ctx context.Context, command []byte) (fsm.Outcome, error) {
	lost := false // a copy of which nothing was heard may be on its way to a log yet
	for {
		out, err := p.submit(ctx, command)
		switch {
		case err == nil && out.Unknown != "":
			return out, fmt.Errorf("%w (%w)", quorum.ErrUnavailable, out.Err())
		case err == nil && out.Refused != nil && lost: // a refusal is not remembered, and says nothing of that copy
			return fsm.Outcome{}, fmt.Errorf("%w (it was refused, and a copy that was sent before may yet be carried out: %s)",
				quorum.ErrUnavailable, out.Refused.Message) // its text only: as an error it would be taken for the outcome
		case err == nil, isFinal(err):
			return out, err
		}
		lost = lost || !errors.Is(err, errNotMade)
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
			return fsm.Outcome{}, fmt.Errorf("%w (%w)", quorum.ErrUnavailable, err)
		}
	}
}

// encode puts a command into an envelope with a new id.
func (n *Cluster) encode(c fsm.Command) []byte {
	var id fsm.ID
	rand.Read(id[:]) // never fails (crypto/rand)
	return fsm.Encode(id, n.config.Store.Applied(), c)
}

func (p *proposer) submit(ctx context.Context, command []byte) (fsm.Outcome, error) {
	q := &proposal{ctx: ctx, command: command, result: make(chan proposed, 1)}
	select {
	case p.queue <- q:
	case <-ctx.Done():
		return fsm.Outcome{}, ctx.Err()
	}
	select {
	case r := <-q.result:
		return r.outcome, r.err
	case <-ctx.Done():
		return fsm.Outcome{}, ctx.Err()
	}
}

func (p *proposer) run(ctx context.Context) {
	slots := make(chan struct{}, batchesInFlight)
	var held *proposal
	last := 0 // commands in the last batch
	for {
		taken := 1
		if last >= busyBatch && !p.leads() { // the leader gathers what comes from here once more
			taken = batchesInFlight
		}
		for range taken {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
		for held == nil || !p.live(held) {
			select {
			case held = <-p.queue:
			case <-ctx.Done():
				return
			}
		}
		if last >= busyBatch {
			select {
			case <-time.After(gatherTime):
			case <-ctx.Done():
				return
			}
		}
		batch := []*proposal{held}
		size := len(held.command)
		held = nil
	gather:
		for len(batch) < batchCommands {
			select {
			case q := <-p.queue:
				if !p.live(q) {
					continue
				}
				if size += len(q.command); size > batchBytes {
					held = q
					break gather
				}
				batch = append(batch, q)
			default:
				break gather
			}
		}
		last = len(batch)
		go func() {
			p.send(ctx, batch)
			for range taken {
				<-slots
			}
		}()
	}
}

func (p *proposer) send(ctx context.Context, batch []*proposal) {
	var results []proposed
	err := mistake.Catch(p.log, "proposing a batch of commands panicked", func() (err error) { // with others' bytes in it
		results, err = p.propose(ctx, batch)
		return err
	})
	for i, q := range batch {
		if err != nil {
			q.result <- proposed{err: err}
		} else {
			q.result <- results[i]
		}
	}
}

// proposeBatch proposes commands here, or has the leader do it.
func (n *Cluster) proposeBatch(ctx context.Context, batch []*proposal) ([]proposed, error) {
	r := n.raft.Load()
	if r == nil {
		return nil, fmt.Errorf("%w: this node is not part of a cluster yet", errNotMade)
	}
	if n.leads() {
		if err := n.config.Store.Halted(); err != nil {
			return nil, fmt.Errorf("%w: %w", quorum.ErrHalted, err)
		}
		began := time.Now()
		results, err := n.proposeEntry(ctx, r, batch)
		if err == nil {
			observe(n.config.Observe.Committed, began)
		}
		return results, err
	}
	leader := n.leader()
	if leader == "" || leader == n.id {
		return nil, fmt.Errorf("%w: %w", errNotMade, errNotLeader)
	}
	return n.forward(ctx, leader, batch)
}

// forward has the leader propose what did not come from another node.
func (n *Cluster) forward(ctx context.Context, leader string, batch []*proposal) ([]proposed, error) {
	results := make([]proposed, len(batch))
	var commands [][]byte
	var places []int
	for i, q := range batch {
		if q.forwarded {
			results[i].err = fmt.Errorf("%w: %w", errNotMade, errNotLeader)
			continue
		}
		commands, places = append(commands, q.command), append(places, i)
	}
	if len(commands) == 0 {
		return results, nil
	}
	body, err := cbor.Marshal(commands)
	if err != nil {
		return nil, err
	}
	var answers []answer
	if err := n.call(ctx, leader, "/propose", body, &answers); err != nil {
		return nil, err
	}
	if len(answers) != len(commands) {
		return nil, fmt.Errorf("the leader answered %d of %d commands", len(answers), len(commands))
	}
	for i, a := range answers {
		results[places[i]].outcome = a.Outcome
		if a.Err != "" {
			results[places[i]].err = a.err()
		}
	}
	return results, nil
}

// proposeEntry makes one log entry of those of the commands that the log may hold: what is in the log, every node has
// to apply, and one that can't be read would stop them all.
func (n *Cluster) proposeEntry(ctx context.Context, r *raft.Raft, batch []*proposal) ([]proposed, error) {
	results := make([]proposed, len(batch))
	var good [][]byte
	var decoded []fsm.Decoded
	var places []int
	for i, q := range batch {
		d, err := n.readable(q.command, q.forwarded)
		if err != nil {
			results[i].err = fmt.Errorf("%w: %w", quorum.ErrRefused, err)
			continue
		}
		good, decoded, places = append(good, q.command), append(decoded, d), append(places, i)
	}
	if len(good) == 0 {
		return results, nil
	}
	entry := fsm.EncodeEntry(good)
	defer n.config.Store.Expect(entry, decoded)()
	f := r.Apply(entry, n.timing.propose)
	if err := within(ctx, n.timing.propose, f); err != nil {
		return nil, madeOrNot(err)
	}
	switch answer := f.Response().(type) {
	case []fsm.Outcome:
		for i, out := range answer {
			results[places[i]].outcome = out
		}
		return results, nil
	case error:
		if errors.Is(answer, fsm.ErrHalted) {
			return nil, fmt.Errorf("%w: %w", quorum.ErrHalted, answer)
		}
		return nil, answer
	}
	return nil, errors.New("the entry was applied without an answer")
}

// madeOrNot marks the errors by which Raft says that it has not put an entry into its log.
func madeOrNot(err error) error {
	for _, not := range []error{raft.ErrNotLeader, raft.ErrEnqueueTimeout, raft.ErrLeadershipTransferInProgress} {
		if errors.Is(err, not) {
			return fmt.Errorf("%w: %w", errNotMade, err)
		}
	}
	return err
}

// readable decodes a command, or returns why it must not get into the log.
func (n *Cluster) readable(command []byte, forwarded bool) (fsm.Decoded, error) {
	d, err := fsm.Decode(command)
	if err != nil {
		return d, err
	}
	if _, raises := d.Command.(*fsm.RaiseFormat); raises && forwarded {
		return d, errors.New("only the leader raises the format, after every member has told that it reads the next")
	}
	if need := fsm.FormatOf(d.Command); need > fsm.FirstFormat { // members of before would stop applying there
		if has, err := n.format(); err != nil || need > has {
			return d, cmp.Or(err, fsm.ErrFormat(need, has))
		}
	}
	return d, fsm.Check(d.Command)
}

// answer is a proposal's outcome on its way back to the node that forwarded it.
type answer struct {
	Outcome fsm.Outcome `cbor:"1,keyasint"`
	Err     string      `cbor:"2,keyasint,omitempty"`
	Kind    int         `cbor:"3,keyasint,omitempty"` // which of knownErrors Err is, counted from 1; 0 for none of them
}

// knownErrors are those that the proposing node acts upon.
var knownErrors = []error{quorum.ErrRefused, quorum.ErrHalted, errNotMade}

func knownError(err error) int {
	return 1 + slices.IndexFunc(knownErrors, func(known error) bool { return errors.Is(err, known) })
}

// isFinal reports whether it does not help to propose again.
func isFinal(err error) bool {
	return errors.Is(err, quorum.ErrRefused) || errors.Is(err, quorum.ErrHalted)
}

func (a *answer) err() error {
	if a.Kind < 1 || a.Kind > len(knownErrors) {
		return errors.New(a.Err)
	}
	return fmt.Errorf("%w (%s)", knownErrors[a.Kind-1], a.Err)
}

// handlePropose takes commands that another node forwarded into this leader's batches.
func (n *Cluster) handlePropose(w http.ResponseWriter, r *http.Request) {
	var commands [][]byte
	if err := readCBOR(r, &commands); err != nil || len(commands) > batchCommands {
		http.Error(w, "wanted a batch of commands", http.StatusBadRequest)
		return
	}
	waiting := make([]*proposal, len(commands))
	for i, c := range commands {
		waiting[i] = &proposal{ctx: r.Context(), command: c, forwarded: true, result: make(chan proposed, 1)}
		select {
		case n.proposer.queue <- waiting[i]:
		case <-r.Context().Done():
			return
		}
	}
	answers := make([]answer, len(waiting))
	for i, q := range waiting {
		select {
		case got := <-q.result:
			answers[i].Outcome = got.outcome
			if got.err != nil {
				answers[i].Err, answers[i].Kind = got.err.Error(), knownError(got.err)
			}
			if errors.Is(got.err, quorum.ErrRefused) {
				n.log.Error("a node proposed what can't be a command", "from", callerOf(r).ID, "error", got.err)
			}
		case <-r.Context().Done():
			return
		}
	}
	writeCBOR(w, answers)
}
