package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"coffer/fsm"
)

// handleFormats answers the formats that this node works with. Gossip is only a hint: what counts is what a member says
// over TLS.
func (n *Cluster) handleFormats(w http.ResponseWriter, _ *http.Request) { writeCBOR(w, fsm.Formats()) }

// format is the format of the region's state; this build's newest before there is one.
func (n *Cluster) format() (format uint64, err error) {
	err = n.config.Store.View(func(tx *fsm.Tx) error {
		format = tx.Format()
		return nil
	})
	if format == 0 {
		format = fsm.Formats().Newest
	}
	return format, err
}

// everyMemberReads asks all members, this node included, and returns an error that names one which does not work with
// format, or does not answer: a node that is down may come back as the build that it was.
func (n *Cluster) everyMemberReads(ctx context.Context, format uint64) error {
	for _, s := range n.servers() {
		id, reads := string(s.ID), fsm.Formats()
		if id != n.id {
			if err := n.call(ctx, id, "/formats", nil, &reads); err != nil {
				return fmt.Errorf("the member %s has not told that it reads format %d: start it with this version of Coffer, "+
					"or remove it (`coffer cluster remove %s`): %w", id, format, id, err)
			}
		}
		if err := reads.Check(format); err != nil {
			return fmt.Errorf("the member %s: %w", id, err)
		}
	}
	return nil
}

// handleRaiseFormat makes a format that every member reads the format of the state.
func (n *Cluster) handleRaiseFormat(w http.ResponseWriter, r *http.Request) {
	if !n.AtLeader(w) {
		return
	}
	to, err := strconv.ParseUint(r.URL.Query().Get("to"), 10, 64)
	if err != nil {
		http.Error(w, "wanted the number of a format", http.StatusBadRequest)
		return
	}
	if err := n.raiseFormat(r.Context(), to); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
	}
}

// raiseFormat raises the format of the state. While it asks the members, and until the command is applied or lost, no
// other is taken in, even if nobody waits for it any more; and the command holds in this leader's own term only, so
// that it can't follow a node which a later leader took in.
func (n *Cluster) raiseFormat(ctx context.Context, to uint64) error {
	release, err := n.holdMembership(ctx)
	if err != nil {
		return err
	}
	defer release()
	term := n.LeaderTerm()
	if term == 0 {
		return errNotLeader
	}
	format, err := n.format()
	switch {
	case err != nil:
		return err
	case to == format:
		return nil
	case to < format:
		return fmt.Errorf("the state has format %d: a format is never lowered", format)
	}
	if err := n.everyMemberReads(ctx, to); err != nil {
		return err
	}
	if err := n.config.Store.Halted(); err != nil {
		return err
	}
	// Past the proposer, where it could wait for longer than the members are held.
	raise := n.encode(&fsm.RaiseFormat{To: to, Term: term})
	out, err := n.proposeEntry(ctx, n.raft.Load(), []*proposal{{ctx: ctx, command: raise}})
	if err == nil {
		err = errors.Join(out[0].err, out[0].outcome.Err())
	}
	if err != nil {
		return fmt.Errorf("it is not known whether the format was raised, ask again: %w", err)
	}
	n.log.Info("the format of the state was raised", "from", format, "to", to)
	return nil
}

// readsArchive returns an error unless the region can take a state of format. One that is later than its own has to be
// read by every member, as when the format is raised.
func (n *Cluster) readsArchive(ctx context.Context, format uint64) error {
	has, err := n.format()
	if err != nil || format <= has {
		return err
	}
	return n.everyMemberReads(ctx, format)
}
