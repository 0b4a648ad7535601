package readindex_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coffer/cluster/quorum"
	"coffer/cluster/readindex"
)

// TestReadsSeeWhatWasAcknowledged runs leaders that come and go, unheard by those that they depose, in regions of one
// to seven voters whose messages take random times or are lost. Readers at all nodes must see every write that was
// acknowledged before they began, or be told that nobody confirms it.
func TestReadsSeeWhatWasAcknowledged(t *testing.T) {
	confirmed := 0
	for voters := 1; voters <= 7; voters++ {
		for seed := range uint64(6) {
			synctest.Test(t, func(t *testing.T) {
				confirmed += runRegion(t, newNetwork(t, voters, 1), random(t, seed*7+uint64(voters)))
			})
		}
	}
	t.Logf("%d reads were confirmed", confirmed)
	if confirmed < 3000 {
		t.Errorf("only %d reads were confirmed: the test shows little", confirmed)
	}
}

// region is the truth about a network: who leads and what was acknowledged.
type region struct {
	*network

	mu           sync.Mutex // guards below
	acknowledged uint64
	confirmed    int
}

func runRegion(t *testing.T, w *network, rng *rand.Rand) int {
	r := &region{network: w, acknowledged: 10}
	var mu sync.Mutex // the generator is for one goroutine at a time
	draw := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return rng.IntN(n)
	}
	w.delay = func() time.Duration { return time.Duration(draw(20_000)) * time.Microsecond }
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for _, id := range w.ids {
		for range 2 {
			readers.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(time.Duration(draw(200)) * time.Millisecond):
						r.readAndCheck(id)
					}
				}
			})
		}
	}
	leader, term := "n1", uint64(1)
	for range 300 {
		time.Sleep(time.Duration(draw(100)) * time.Millisecond)
		switch draw(10) {
		case 0:
			if id := w.ids[draw(len(w.ids)-1)]; r.electAnother(id, term+1, draw) {
				leader, term = id, term+1
			}
		case 1:
			w.cut(w.ids[draw(len(w.ids))])
		case 2, 3:
			for _, id := range w.ids {
				w.mend(id)
			}
		case 4, 5: // some hear of the leader, and catch up
			for _, id := range w.ids {
				if n := w.nodes[id]; id != leader && draw(2) == 0 {
					n.follow(max(term, n.Term()), leader)
					n.apply(w.nodes[leader].Applied())
				}
			}
		default:
			r.write(leader, term, draw)
		}
	}
	close(stop)
	readers.Wait()
	return r.confirmed
}

func (r *region) readAndCheck(id string) {
	r.mu.Lock()
	before := r.acknowledged
	r.mu.Unlock()
	err := r.read(id)
	switch {
	case errors.Is(err, quorum.ErrNoLeader), errors.Is(err, quorum.ErrBehind):
		return
	case err != nil:
		r.t.Errorf("a read at %s: %v", id, err)
	}
	if have := r.nodes[id].Applied(); have < before {
		r.t.Errorf("a read at %s was confirmed at %d, and %d was acknowledged before", id, have, before)
	}
	r.mu.Lock()
	r.confirmed++
	r.mu.Unlock()
}

// electAnother elects a voter with the votes of a random majority, from which it takes all that was acknowledged.
func (r *region) electAnother(id string, term uint64, draw func(int) int) bool {
	voters := r.nodes[id].Members().Voters()
	votes := []string{}
	first := draw(len(voters))
	for i := range voters {
		i = (first + i) % len(voters)
		if voters[i] != id && len(votes)+1 < quorum.Majority(len(voters))+draw(2) {
			votes = append(votes, voters[i])
		}
	}
	if len(votes)+1 < quorum.Majority(len(voters)) {
		return false
	}
	for _, v := range votes {
		r.nodes[v].follow(term, "")
	}
	r.mu.Lock()
	r.nodes[id].apply(r.acknowledged)
	r.mu.Unlock()
	r.elect(id, term)
	return true
}

// write acknowledges a write that a majority of the voters, in the leader's term, has taken.
func (r *region) write(leader string, term uint64, draw func(int) int) {
	took := 0
	voters := r.nodes[leader].Members().Voters()
	for _, id := range voters {
		if n := r.nodes[id]; id == leader || draw(4) > 0 && n.Term() <= term {
			if id != leader {
				n.follow(term, leader)
			}
			took++
		}
	}
	if took < quorum.Majority(len(voters)) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nodes[leader].apply(r.acknowledged + 1)
	r.acknowledged++
}

// FuzzServe sends bytes to a node: it answers what it can read, and ends the connection otherwise.
func FuzzServe(f *testing.F) {
	f.Add([]byte{1})
	f.Add(append([]byte{1}, make([]byte, 32)...))
	f.Fuzz(func(t *testing.T, sent []byte) {
		n := &node{members: quorum.Configuration{{ID: "n1", Voter: true}}}
		b := readindex.New(readindex.Config{
			Self: "n1", Node: n, Cluster: func() readindex.ClusterID { return readindex.ClusterID{} }, Timeout: time.Millisecond,
			Dial: func(context.Context, string) (net.Conn, error) { return nil, errors.New("nobody is there") },
		})
		defer b.Close()
		ours, theirs := net.Pipe()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			b.Serve(t.Context(), theirs, "n2")
		}()
		go func() { _, _ = io.Copy(io.Discard, ours) }() // ends with the connection
		_, _ = ours.Write(sent)
		_ = ours.Close()
		<-ended
	})
}
