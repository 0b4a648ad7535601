package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/hashicorp/raft"

	"coffer/cluster/quorum"
)

// handleRemove removes a node if a majority of the voters that remain follows, so that the region can go on, or if the
// operator insists.
func (n *Cluster) handleRemove(w http.ResponseWriter, r *http.Request) {
	if !n.AtLeader(w) {
		return
	}
	id := r.URL.Query().Get("id")
	if !n.isMember(id) {
		http.Error(w, fmt.Sprintf("%q is not a member: `coffer cluster members` lists them", id), http.StatusNotFound)
		return
	}
	force, _ := strconv.ParseBool(r.URL.Query().Get("force")) // anything else is no
	release, err := n.holdMembership(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer release()
	err = n.mayRemove(r.Context(), id)
	var unsafe *quorum.RemovalError
	switch {
	case errors.As(err, &unsafe) && force && !unsafe.Final():
		n.log.Warn("a node is removed by force", "node", id, "error", err)
	case err != nil:
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	if err := n.remove(r.Context(), id); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// mayRemove fails with a [quorum.RemovalError] if the region might not be able to go on without a node.
func (n *Cluster) mayRemove(ctx context.Context, id string) error {
	if !n.members().Votes(id) {
		return nil
	}
	s := n.survey(ctx)
	return s.members.CheckRemoval(id, s.follows)
}

func (n *Cluster) remove(ctx context.Context, id string) error {
	return within(ctx, membershipTimeout, n.raft.Load().RemoveServer(raft.ServerID(id), 0, membershipTimeout))
}

// removeAlone is remove while nobody else changes the members.
func (n *Cluster) removeAlone(ctx context.Context, id string) error {
	release, err := n.holdMembership(ctx)
	if err != nil {
		return err
	}
	defer release()
	return n.remove(ctx, id)
}

// holdMembership waits until nobody else takes a node in, removes one or asks all members for something, and until what
// was asked for before is settled: whoever gave up waiting may have left an entry in the log that is not applied yet.
// What is put into the log through Raft itself before release is called is settled for the next one, however long it
// takes.
func (n *Cluster) holdMembership(ctx context.Context) (release func(), err error) {
	select {
	case n.membership <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	release = func() { <-n.membership }
	r := n.raft.Load()
	if r == nil || r.State() != raft.Leader {
		release()
		return nil, errNotLeader
	}
	if err := within(ctx, membershipTimeout, r.Barrier(membershipTimeout)); err != nil {
		release()
		return nil, fmt.Errorf("what was asked for before may still happen, try again: %w", err)
	}
	return release, nil
}

// within waits for what Raft was told to do, but not for ever: Raft answers nothing while its disk hangs. What was
// given up may still happen.
func within(ctx context.Context, limit time.Duration, f raft.Future) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f.Error() }() // ends with Raft at the latest
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("Raft did not answer in time, and what was asked for may still happen: %w", ctx.Err())
	}
}

func (n *Cluster) handleTransfer(w http.ResponseWriter, r *http.Request) {
	if !n.AtLeader(w) {
		return
	}
	node := n.raft.Load()
	f := raft.Future(nil)
	if to := r.URL.Query().Get("to"); to == "" {
		f = node.LeadershipTransfer()
	} else if !n.members().Votes(to) {
		http.Error(w, fmt.Sprintf("%q is not a voter: `coffer cluster members` lists them", to), http.StatusNotFound)
		return
	} else {
		f = node.LeadershipTransferToServer(raft.ServerID(to), raft.ServerAddress(to))
	}
	if err := within(r.Context(), membershipTimeout, f); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

func (n *Cluster) isMember(id string) bool {
	for _, s := range n.servers() {
		if string(s.ID) == id {
			return true
		}
	}
	return false
}

// promoteLearners makes learners voters when they have caught up, while this node leads. Each says itself, by its
// certificate, whether it wants a vote: that way no leader has to remember which ones never do.
func (n *Cluster) promoteLearners(ctx context.Context) {
	alone := ""
	every(ctx, formInterval, func() {
		r := n.raft.Load()
		if r == nil || r.State() != raft.Leader {
			return
		}
		at := n.config.Store.Configured() // before the members are read
		ready := n.readyLearners(ctx, r)
		if len(ready) == 0 || at == 0 {
			return
		}
		s, voters := ready[0], n.voters()
		// Two voters take no writes while either is away: a region that was formed of one node goes from one to three, so
		// that no single node that joins, and goes again, can stop it.
		if voters == 1 && len(ready) == 1 && n.config.BootstrapExpect < 2 {
			if id := string(s.ID); alone != id {
				alone = id
				n.log.Warn("a learner has caught up and waits for a second one to get its vote with: two voters take no writes"+
					" while either is away. bootstrap-expect 2 at this node has it vote at once", "node", id)
			}
			return
		}
		// Only if nothing changed since: or else a learner that was removed meanwhile would be taken in again.
		if err := within(ctx, membershipTimeout, r.AddVoter(s.ID, s.Address, at, membershipTimeout)); err != nil {
			n.log.Warn("a learner could not be made a voter", "node", s.ID, "error", err)
			return
		}
		n.log.Info("a learner has caught up and is a voter now", "node", s.ID, "voters", voters+1)
	})
}

// readyLearners are the learners that want a vote, and follow closely.
func (n *Cluster) readyLearners(ctx context.Context, r *raft.Raft) (ready []raft.Server) {
	for _, s := range n.servers() {
		if s.Suffrage == raft.Voter {
			continue
		}
		last := r.LastIndex()
		p, err := n.askProgress(ctx, string(s.ID))
		if err == nil && !p.NonVoter && p.Last+quorum.Near >= last {
			ready = append(ready, s)
		}
	}
	return ready
}

// surveyInterval is how often a leader looks for dead servers.
const surveyInterval = 5 * time.Second

// removeDead removes servers that have not answered for as long as is configured, while this node leads, one at a time.
func (n *Cluster) removeDead(ctx context.Context) {
	if n.config.RemoveDead == (quorum.RemoveDead{}) {
		return
	}
	interval := surveyInterval
	if after := n.config.RemoveDead.After; after > 0 {
		interval = min(interval, after/4)
	}
	silent := map[string]time.Duration{}
	every(ctx, interval, func() {
		if !n.leads() {
			clear(silent)
			return
		}
		s := n.survey(ctx)
		// Silence is counted in questions that were not answered. So a time in which this node itself was paused, or all
		// were, counts for nothing.
		for _, m := range s.members {
			if _, said := s.said[m.ID]; said {
				delete(silent, m.ID)
			} else {
				silent[m.ID] += interval
			}
		}
		dead := s.members.Dead(n.config.RemoveDead, silent, s.follows)
		if dead == "" || !n.leads() {
			return
		}
		n.log.Warn("a server that has not answered for long is removed", "node", dead, "silent", silent[dead].String())
		if err := n.removeAlone(ctx, dead); err != nil {
			n.log.Warn("a dead server could not be removed", "node", dead, "error", err)
			return
		}
		delete(silent, dead)
	})
}
