package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"coffer/cluster/quorum"
	"coffer/fsm"
)

const (
	// restoreTimeout bounds how long the leader's own state may take to be replaced. It grows with the archive.
	restoreTimeout = time.Hour
	// epochTimeout bounds how long the first entry behind a restored state may take.
	epochTimeout = time.Minute
	// doubtTimeout is how long a node that was sent a state waits for its commitment while it has a leader.
	doubtTimeout  = 30 * time.Second
	doubtInterval = 50 * time.Millisecond
)

// restoring is what this node knows of states that may not be committed.
type restoring struct {
	under sync.Mutex   // held by the one restore under way
	taken atomic.Int32 // states that Raft is replacing the one here by; they take as long as they are large
	doubt atomic.Bool  // the state here may never be committed: it is not read, except by whoever asks for what is here

	// at is called at the points where a restore may be cut short, and cuts it by an error; for tests, nil otherwise.
	at func(point string) error
}

func (r *restoring) reach(point string) error {
	if r.at == nil {
		return nil
	}
	return r.at(point)
}

var errRestoring = fmt.Errorf("%w: the state of this node was replaced by an archive, and that is not committed yet",
	quorum.ErrBehind)

// replaceState replaces the state of the whole region by an archive. Raft does not replicate a restore: it replaces
// this leader's own state and log at once, and sends them to the others afterwards. If this node fails before an entry
// behind them is committed, another leader fills the same indexes with something else. So a mark stands in the data
// directory for that time, and this node confirms nobody's reads.
func (n *Cluster) replaceState(ctx context.Context, meta *raft.SnapshotMeta, archive io.Reader) (err error) {
	if !n.restoring.under.TryLock() {
		return errors.New("another restore is under way")
	}
	defer func() {
		if !errors.Is(err, errCut) { // after a cut nothing goes on, as if the process had ended
			n.restoring.under.Unlock()
		}
	}()
	s := n.survey(ctx)
	if err := s.members.CheckRestore(n.id, s.follows); err != nil {
		return err
	}
	term := n.established.Swap(0)
	if term == 0 {
		return errNotLeader
	}
	before := n.snapshots.taken.Load()
	err = n.beginRestore(ctx, meta, archive)
	if errors.Is(err, errCut) {
		return err
	}
	if err != nil && n.snapshots.taken.Load() == before {
		// Nothing was replaced: the archive could not be written, or Raft was changing members.
		if markErr := n.settle(); markErr != nil {
			return errors.Join(err, markErr)
		}
		n.established.CompareAndSwap(0, term)
		return err
	}
	if err != nil {
		n.abandon(err)
		return err
	}
	if err := n.restoring.reach("committed"); err != nil {
		return err
	}
	if err := n.settle(); err != nil {
		n.config.OnFatal(err)
		return err
	}
	n.established.CompareAndSwap(0, term) // unless leadership was lost meanwhile
	return nil
}

// errCut is what tests cut a restore short with.
var errCut = errors.New("cut short")

// beginRestore returns when the restored state, and the beginning of its epoch behind it, are committed.
func (n *Cluster) beginRestore(ctx context.Context, meta *raft.SnapshotMeta, archive io.Reader) error {
	n.restoring.doubt.Store(true)
	if err := writeRestoreMark(n.config.Dir, restoreMark{Voters: n.voters()}); err != nil {
		return fmt.Errorf("mark the beginning of the restore: %w", err)
	}
	if err := n.restoring.reach("marked"); err != nil {
		return err
	}
	r := n.raft.Load()
	if err := r.Restore(meta, archive, restoreTimeout); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	// A majority has the state, so it is never discarded: it is in doubt until Raft says so, as if it had been sent.
	if err := writeRestoreMark(n.config.Dir, restoreMark{}); err != nil {
		return fmt.Errorf("mark that a majority has the restored state: %w", err)
	}
	if err := n.restoring.reach("restored"); err != nil {
		return err
	}
	if err := n.beginEpoch(context.WithoutCancel(ctx), r); err != nil {
		return fmt.Errorf("the state was restored, but takes no writes until its epoch has begun: restore it once more: %w",
			err)
	}
	return nil
}

// beginEpoch puts an entry after a state that was restored or recovered, so that no node can take itself for up to
// date without it. Other regions have seen later states, or earlier ones, and commands that were made before it are
// not carried out any more.
func (n *Cluster) beginEpoch(ctx context.Context, r *raft.Raft) error {
	entry := fsm.EncodeEntry([][]byte{n.encode(&fsm.BeginEpoch{At: time.Now().UnixMilli()})})
	f := r.Apply(entry, epochTimeout)
	err := within(ctx, epochTimeout, f)
	if err == nil {
		err, _ = f.Response().(error)
	}
	return err
}

// epochBegun reports whether the state, if there is one, is more than what an archive held.
func (n *Cluster) epochBegun() (begun bool, err error) {
	err = n.config.Store.View(func(tx *fsm.Tx) error {
		begun = tx.EpochBegun()
		return nil
	})
	return begun, err
}

// settle removes the mark: the state here is committed, or was not replaced.
func (n *Cluster) settle() error {
	if err := removeRestoreMark(n.config.Dir); err != nil {
		return fmt.Errorf("the mark of a restore that is done can't be removed: %w", err)
	}
	n.restoring.doubt.Store(false)
	return nil
}

// abandon ends this node, which leads no more or can't bring a restored state to a majority. When it starts again it
// discards its data, or, where nobody else can have gone on without it or a majority has the state, keeps it.
func (n *Cluster) abandon(why error) {
	n.config.OnFatal(fmt.Errorf("a restore was not completed; whether it takes effect is not known. Start this node"+
		" again: it then has the state that the region has: %w", why))
}

// machine is the state machine as Raft sees it.
type machine struct {
	*fsm.Store
	n *Cluster
}

// Restore takes a state that a leader sent, or that was sent before this node stopped. It may be that of a restore,
// which is committed only by what follows.
func (m machine) Restore(from io.ReadCloser) error {
	m.n.restoring.taken.Add(1)
	defer m.n.restoring.taken.Add(-1)
	if err := markReplaced(m.n.config.Dir, from); err != nil {
		return err
	}
	m.n.restoring.doubt.Store(true)
	if err := m.n.restoring.reach("received"); err != nil {
		return err
	}
	if err := m.Store.Restore(from); err != nil {
		return err
	}
	return m.n.restoring.reach("replaced")
}

// markReplaced marks that the state is about to be replaced by one that was sent, or that this node restores.
func markReplaced(dir string, by io.ReadCloser) error {
	m, there, err := readRestoreMark(dir)
	if err == nil && (!there || m.Voters > 0) {
		if m.Voters > 0 {
			m.Index = fsm.TakenFor(by)
		}
		err = writeRestoreMark(dir, m)
	}
	if err != nil {
		return fmt.Errorf("mark that the state is replaced: %w", err)
	}
	return nil
}

// watchDoubt settles a state that was sent, or carried through, once Raft says that its index is committed. One that a
// leader does not confirm for long is not in that leader's log.
func (n *Cluster) watchDoubt(ctx context.Context) {
	waited := time.Duration(0)
	every(ctx, doubtInterval, func() {
		r := n.raft.Load()
		if r == nil || !n.restoring.doubt.Load() || !n.restoring.under.TryLock() {
			waited = 0
			return
		}
		defer n.restoring.under.Unlock()
		switch {
		case r.CommitIndex() >= n.snapshots.reach():
			if err := n.settle(); err != nil {
				n.config.OnFatal(err)
			}
		case n.leader() == "" || n.leader() == n.id || n.restoring.taken.Load() > 0:
			waited = 0
		case waited >= doubtTimeout:
			why := errors.New("the leader's log has something else in place of the state that this node was sent")
			if err := writeRestoreMark(n.config.Dir, restoreMark{Discard: true}); err != nil {
				why = errors.Join(why, err)
			}
			n.abandon(why)
		default:
			waited += doubtInterval
		}
	})
}
