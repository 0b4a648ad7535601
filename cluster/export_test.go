package cluster

import (
	"context"
	"log/slog"

	"coffer/cluster/raftlog"
	"coffer/fsm"
)

// PutIntoLog puts an entry into the log as it is, as a leader of another version, or one with a mistake, would.
func (n *Cluster) PutIntoLog(entry []byte) error {
	return n.raft.Load().Apply(entry, n.timing.propose).Error()
}

// Enter has this node take part in a cluster, as when it was taken in and has heard of no leader yet.
func (n *Cluster) Enter(cluster string, term uint64, members ...string) error {
	return n.enter(welcome{cluster, term, members})
}

// FindRemoved asks the other nodes whether this one is a member still.
func (n *Cluster) FindRemoved(ctx context.Context) { n.findRemoved(ctx) }

// WatchApplying watches the entry that is being applied until ctx ends. It returns what readiness says of it.
func WatchApplying(ctx context.Context, log *slog.Logger, applying func() (index, sum uint64)) (ready func() error) {
	w := &applyWatch{applying: applying, log: log}
	go w.run(ctx)
	return w.err
}

// ErrNotMade says that a proposal is in no log and will not be.
var ErrNotMade = errNotMade

// Settle proposes a command until its fate is known or ctx ends. Each copy comes to what reach answers.
func Settle(ctx context.Context, command []byte, reach func() (fsm.Outcome, error)) (fsm.Outcome, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := newProposer(func(context.Context, []*proposal) ([]proposed, error) {
		out, err := reach()
		return []proposed{{out, err}}, nil
	}, func() bool { return true }, slog.New(slog.DiscardHandler))
	go p.run(ctx)
	return p.settle(ctx, command)
}

// RunProposer runs a proposer whose batches are carried out by carry, until ctx ends. It returns how commands are
// submitted, and how many were dropped.
func RunProposer(ctx context.Context, carry func(commands [][]byte)) (
	submit func(context.Context, []byte) error, dropped func() uint64,
) {
	p := newProposer(func(_ context.Context, batch []*proposal) ([]proposed, error) {
		commands := make([][]byte, len(batch))
		for i, q := range batch {
			commands[i] = q.command
		}
		carry(commands)
		results := make([]proposed, len(commands))
		for i := range results {
			results[i].outcome = fsm.Outcome{Count: 1}
		}
		return results, nil
	}, func() bool { return true }, slog.New(slog.DiscardHandler))
	go p.run(ctx)
	submit = func(ctx context.Context, command []byte) error {
		_, err := p.submit(ctx, command)
		return err
	}
	return submit, p.expired.Load
}

// ErrCut cuts a restore short in a test, as the end of the process would.
var ErrCut = errCut

// AtRestore has do called at the points of restores: "marked", "replaced" (here), "restored" (by a majority),
// "committed" (the epoch has begun). What it fails with cuts the restore short.
func (n *Cluster) AtRestore(do func(point string) error) { n.restoring.at = do }

// Snapshots is Raft's snapshot store.
type Snapshots = snapshots

// OpenSnapshots opens the snapshots of a node.
var OpenSnapshots = openSnapshots

// Over gives the snapshots the log that they are above.
func (s *snapshots) Over(logs *raftlog.Log) { s.logs = logs }

// Verify verifies the log above the state.
func (s *snapshots) Verify() error { return s.verify() }

// ForgetReplaced removes a received snapshot that is of no use any more.
func (s *snapshots) ForgetReplaced() { s.forgetReplaced() }
