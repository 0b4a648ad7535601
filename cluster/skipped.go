package cluster

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/raft"

	"coffer/cluster/quorum"
	"coffer/fsm"
)

// outcome is what a node did with a log entry.
type outcome struct {
	Through uint64 `cbor:"1,keyasint"` // the last entry that its state on disk has come to
	Skipped bool   `cbor:"2,keyasint"` // its state says that the entry was skipped
	Sum     uint64 `cbor:"3,keyasint"` // of the entry that was
}

// outcomeOf is what this node did with the entry at index. It is on disk when it is told: nobody has to reckon with
// another answer of this node, whatever it is started with.
func (n *Cluster) outcomeOf(index uint64) (o outcome, err error) {
	store := n.config.Store
	if store.Durable().Through < index && store.Applied() >= index {
		if err := store.Flush(); err != nil {
			return o, err
		}
	}
	o.Through = store.Durable().Through // before the state is looked at, which may come to the entry meanwhile
	err = store.View(func(tx *fsm.Tx) error {
		o.Sum, o.Skipped = tx.Skipped(index)
		return nil
	})
	return o, err
}

// handleOutcome answers what this node did with a log entry.
func (n *Cluster) handleOutcome(w http.ResponseWriter, r *http.Request) {
	var index uint64
	if err := readCBOR(r, &index); err != nil {
		http.Error(w, "wanted an index", http.StatusBadRequest)
		return
	}
	o, err := n.outcomeOf(index)
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	writeCBOR(w, o)
}

// fate is what the voters say that they did with a log entry.
type fate struct {
	voters  int
	open    int  // have not come to it
	skipped int  // have skipped it
	applied int  // have come to it, and have not skipped it
	past    bool // one has skipped it and gone on, so that a majority had skipped it then
}

func (f *fate) count(at fsm.Stop, o outcome) {
	switch {
	case o.Through < at.Index:
		f.open++
	case o.Skipped && o.Sum == at.Sum:
		f.skipped++
		f.past = f.past || o.Through > at.Index
	default:
		f.applied++
	}
}

func (f *fate) most(voters int) bool { return voters >= quorum.Majority(f.voters) }

// fateOf asks all voters what they did with an entry.
func (n *Cluster) fateOf(ctx context.Context, at fsm.Stop) fate {
	voters := n.members().Voters()
	f := fate{voters: len(voters)}
	body, err := cbor.Marshal(at.Index)
	if err != nil {
		return f
	}
	ctx, cancel := context.WithTimeout(ctx, progressTimeout)
	defer cancel()
	var mu sync.Mutex // guards f while voters are asked
	var asked sync.WaitGroup
	for _, id := range voters {
		asked.Go(func() {
			var o outcome
			var err error
			if id == n.id {
				o, err = n.outcomeOf(at.Index)
			} else {
				err = n.call(ctx, id, "/outcome", body, &o)
			}
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				f.count(at, o)
			}
		})
	}
	asked.Wait()
	return f
}

// goOn has this node go on behind an entry that it has skipped when a majority of the voters has skipped it, so that no
// majority can ever have applied it. left says that a majority has applied it: then this node leaves service, to take
// the state of the others.
func (n *Cluster) goOn(ctx context.Context, at fsm.Stop) (left bool) {
	switch f := n.fateOf(ctx, at); {
	case f.past || f.most(f.skipped):
		if err := n.config.Store.GoOn(n.logs); err != nil {
			n.log.Error("this node can't go on behind a log entry that was skipped", "error", err)
		}
	case f.most(f.applied):
		n.config.OnDiverged(fmt.Errorf("%w: they have applied log entry %d, which it has skipped", ErrDiverged, at.Index))
		return true
	}
	return false
}

// awaitOpen waits, where this leader's store has stopped, until a majority of the voters says that it has not come to
// the entry. Or else those that skip it may have gone on in an earlier term, and acknowledged writes that reads here
// would not see.
func (n *Cluster) awaitOpen(ctx context.Context, r *raft.Raft, term uint64) error {
	for {
		at, stopped := n.config.Store.Stopped()
		if !stopped {
			return nil
		}
		if f := n.fateOf(ctx, at); f.most(f.open) {
			return nil
		}
		if r.State() != raft.Leader || r.CurrentTerm() != term {
			return raft.ErrLeadershipLost
		}
		select {
		case <-time.After(formInterval):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
