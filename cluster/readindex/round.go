package readindex

import (
	"context"
	"time"

	"coffer/cluster/quorum"
)

// atOnce answers a question for which nobody else has to be asked: where this leader and who asks are a majority.
func (b *Barrier) atOnce(q quorum.Question) (index uint64, ok bool) {
	term := b.Node.Leads()
	if term == 0 {
		return 0, false
	}
	index, members := b.Node.Applied(), b.Node.Members()
	tally := quorum.NewTally(b.Self, term, 0, members)
	return index, tally.Majority(q) && tally.Stands(b.Node.Leads(), b.Node.Members())
}

// lead confirms, in a round of its own, that this node still leads in term, and tells those who wait how far it has
// applied. They are told one by one as soon as enough voters have answered: who asks from a voter needs one less.
func (b *Barrier) lead(term uint64, waiting []*waiter) error {
	b.number++
	// All of it is read after the round began. What was acknowledged before is applied here, if nobody else leads.
	index, members := b.Node.Applied(), b.Node.Members()
	tally := quorum.NewTally(b.Self, term, b.number, members)
	open := b.settle(waiting, tally, index)
	if len(open) == 0 {
		return nil
	}
	timeout := time.NewTimer(b.Timeout)
	defer timeout.Stop()
	answers := make(chan heard, len(members))
	p := posed{question{askTerm, b.Cluster(), term, b.number}, time.Now().Add(b.Timeout), answers}
	b.pose(members, p)
	for {
		err := error(nil)
		select {
		case a := <-answers:
			tally.Count(quorum.Answer{From: a.from, Round: a.round, Term: a.term})
			if l := b.lines[a.from]; l != nil && a.term < term { // it is about to hear of this leader
				time.AfterFunc(retryAfter, func() { l.pose(p) })
			}
		case <-timeout.C:
			err = errSilent
		case <-b.ctx.Done():
			err = b.ctx.Err()
		}
		if open = b.settle(open, tally, index); len(open) == 0 {
			return nil
		}
		if err == nil && tally.Refused() {
			err = errRefused
		}
		if err != nil {
			for _, w := range open {
				w.finish(0, err)
			}
			return err
		}
	}
}

// settle tells those whose question the round answers by now, and returns the others.
func (b *Barrier) settle(waiting []*waiter, tally *quorum.Tally, index uint64) (open []*waiter) {
	for _, w := range waiting {
		if tally.Majority(w.question) && tally.Stands(b.Node.Leads(), b.Node.Members()) {
			w.finish(index, nil)
		} else {
			open = append(open, w)
		}
	}
	return open
}

// pose puts a round's question to all other voters. Lines to nodes that are none are closed.
func (b *Barrier) pose(members quorum.Configuration, p posed) {
	for id, l := range b.lines {
		if !members.Votes(id) {
			l.stop()
			delete(b.lines, id)
		}
	}
	for _, id := range members.Voters() {
		if id == b.Self {
			continue
		}
		l := b.lines[id]
		if l == nil {
			ctx, stop := context.WithCancel(b.ctx)
			l = &openLine{newLine(b.Dial, id), stop}
			b.lines[id] = l
			b.ended.Go(func() { l.run(ctx) })
		}
		l.pose(p)
	}
}
