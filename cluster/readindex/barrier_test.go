package readindex_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"coffer/cluster/quorum"
	"coffer/cluster/readindex"
)

// TestReadsNeedAMajorityOfTheVoters lets ever more of one to seven voters fail, the leader last.
func TestReadsNeedAMajorityOfTheVoters(t *testing.T) {
	for voters := 1; voters <= 7; voters++ {
		t.Run(fmt.Sprint(voters), func(t *testing.T) {
			bubble(t, voters, 0, func(t *testing.T, w *network) {
				for dead := range voters {
					if dead > 0 {
						w.cut(w.ids[voters-dead])
					}
					want := error(nil)
					if voters-dead < quorum.Majority(voters) {
						want = quorum.ErrNoLeader
					}
					for _, id := range w.ids[:voters-dead] {
						w.want(id, want)
					}
				}
			})
		})
	}
}

// TestLearnersReadAndDoNotCount has two voters of three and two learners: without the second voter nothing is
// confirmed.
func TestLearnersReadAndDoNotCount(t *testing.T) {
	bubble(t, 3, 2, func(t *testing.T, w *network) {
		w.cut("n3")
		w.want("n4", nil)
		w.want("n1", nil)
		w.cut("n2")
		for _, id := range []string{"n1", "n4", "n5"} {
			w.want(id, quorum.ErrNoLeader)
		}
	})
}

// TestALeaderThatIsNoVoterDoesNotCountItself is about one that removes itself: the two that stay are asked both.
func TestALeaderThatIsNoVoterDoesNotCountItself(t *testing.T) {
	bubble(t, 3, 0, func(t *testing.T, w *network) {
		w.nodes["n1"].configure(quorum.Configuration{{ID: "n2", Voter: true}, {ID: "n3", Voter: true}})
		w.want("n1", nil)
		w.cut("n3")
		w.want("n1", quorum.ErrNoLeader)
	})
}

// TestAnswersFromBeforeTheReadDoNotCount pauses a leader whose voters' answers lie in its sockets. Meanwhile the others
// elect another leader and write. A read that begins when the old leader goes on must not be confirmed by those
// answers.
func TestAnswersFromBeforeTheReadDoNotCount(t *testing.T) {
	for _, voters := range []int{2, 3, 4, 5, 6, 7} {
		bubble(t, voters, 0, func(t *testing.T, w *network) {
			others := w.ids[1:]
			w.want("n1", nil) // it has its connections
			paused := make(chan struct{})
			w.mu.Lock()
			w.hold = paused
			w.mu.Unlock()
			before := make(chan error)
			go func() { before <- w.read("n1") }()
			synctest.Wait() // the answers are there, in term 1
			w.elect("n2", 2, others...)
			w.nodes["n2"].apply(11)
			after := make(chan error)
			go func() { after <- w.read("n1") }()
			synctest.Wait()
			w.mu.Lock()
			w.hold = nil
			w.mu.Unlock()
			close(paused)
			if err := <-after; !errors.Is(err, quorum.ErrNoLeader) {
				t.Errorf("%d voters: a read that began after another leader's write: %v", voters, err)
			}
			<-before // may be confirmed: it began before the write
		})
	}
}

// TestAQuestionCountsForItsOwnReadsOnly has a leader and a follower that are a majority by themselves, when the third
// node is gone. The follower's question is its answer; but what it asked before it followed another leader is no
// answer for reads that began at the old leader since.
func TestAQuestionCountsForItsOwnReadsOnly(t *testing.T) {
	bubble(t, 5, 0, func(t *testing.T, w *network) {
		w.cut("n4")
		w.cut("n5")
		w.want("n2", nil) // n1, n2 by asking, n3
		w.cut("n3")
		w.want("n2", quorum.ErrNoLeader)
		// The question of n2 lies at n1; then n2 helps to elect n3, and a read begins at n1.
		asked := make(chan error)
		go func() { asked <- w.read("n2") }()
		synctest.Wait()
		w.elect("n3", 2, "n2", "n4", "n5")
		w.want("n1", quorum.ErrNoLeader)
		<-asked
	})
	bubble(t, 3, 0, func(t *testing.T, w *network) {
		w.cut("n3")
		w.want("n2", nil)
		w.nodes["n2"].follow(2, "n1") // it votes for somebody later
		w.want("n2", quorum.ErrNoLeader)
	})
}

// TestAVoterInALaterTermRefusesTheRound does not fall back to anything: the read fails, at the latest after a second.
func TestAVoterInALaterTermRefusesTheRound(t *testing.T) {
	bubble(t, 3, 0, func(t *testing.T, w *network) {
		w.nodes["n2"].follow(2, "")
		w.nodes["n3"].follow(2, "")
		start := time.Now()
		w.want("n1", quorum.ErrNoLeader)
		if took := time.Since(start); took > 1100*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

// TestAVoterThatHasNotHeardOfTheLeaderIsAskedAgain in the same round: it answers when it follows.
func TestAVoterThatHasNotHeardOfTheLeaderIsAskedAgain(t *testing.T) {
	bubble(t, 3, 0, func(t *testing.T, w *network) {
		w.cut("n3")
		w.nodes["n1"].get(func() { w.nodes["n1"].term, w.nodes["n1"].leads = 2, 2 })
		time.AfterFunc(300*time.Millisecond, func() { w.nodes["n2"].follow(2, "n1") })
		start := time.Now()
		w.want("n1", nil)
		if took := time.Since(start); took > 400*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

// TestARestartedVoterIsAskedAgain in the same round, though its connection has ended.
func TestARestartedVoterIsAskedAgain(t *testing.T) {
	bubble(t, 3, 0, func(t *testing.T, w *network) {
		w.cut("n3")
		w.want("n1", nil)
		w.cut("n2")
		time.AfterFunc(250*time.Millisecond, func() { w.mend("n2") })
		start := time.Now()
		w.want("n1", nil)
		if took := time.Since(start); took > 400*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

// TestMembersThatChangeDuringARound are not counted by what they were: the round is over, and the next one counts them
// by what they are.
func TestMembersThatChangeDuringARound(t *testing.T) {
	bubble(t, 3, 2, func(t *testing.T, w *network) {
		w.cut("n4")
		w.cut("n5")
		old := w.nodes["n1"].Members()
		for name, c := range map[string]quorum.Configuration{
			"added":   append(slices.Clone(old[:3]), quorum.Server{ID: "n4", Voter: true}, quorum.Server{ID: "n5", Voter: true}),
			"removed": {old[0], old[2]},
			"demoted": {old[0], {ID: "n2"}, old[2]},
		} {
			w.nodes["n1"].configure(old)
			w.cut("n3") // only n2 answers
			w.want("n1", nil)
			hold := make(chan struct{})
			w.mu.Lock()
			w.hold = hold
			w.mu.Unlock()
			read := make(chan error)
			go func() { read <- w.read("n1") }()
			synctest.Wait()
			w.nodes["n1"].configure(c) // n2's answer lies in n1's socket
			w.mu.Lock()
			w.hold = nil
			w.mu.Unlock()
			close(hold)
			if err := <-read; !errors.Is(err, quorum.ErrNoLeader) {
				t.Errorf("%s: n1 and n2 are no majority any more: %v", name, err)
			}
			w.mend("n3")
		}
	})
}

// TestASlowVoterHoldsNobodyUp shows that rounds go on while one voter of three never answers.
func TestASlowVoterHoldsNobodyUp(t *testing.T) {
	bubble(t, 3, 0, func(t *testing.T, w *network) {
		w.want("n1", nil)
		w.nodes["n3"].mu.Lock() // it hangs
		defer w.nodes["n3"].mu.Unlock()
		start := time.Now()
		for range 100 {
			w.want("n1", nil)
		}
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Errorf("100 reads took %v", took)
		}
	})
}

// TestReadersShareRounds counts the questions that a hundred readers come to.
func TestReadersShareRounds(t *testing.T) {
	bubble(t, 3, 0, func(t *testing.T, w *network) {
		rounds := atomic.Int64{}
		w.delay = func() time.Duration { rounds.Add(1); return time.Millisecond }
		var readers sync.WaitGroup
		for range 100 {
			readers.Go(func() { w.want("n1", nil) })
		}
		readers.Wait()
		if n := rounds.Load(); n > 8 {
			t.Errorf("100 readers at once came to %d questions", n)
		}
	})
}

// TestAFencedLeaderConfirmsNobodysReads is about a restore: the leader leads and does not answer.
func TestAFencedLeaderConfirmsNobodysReads(t *testing.T) {
	bubble(t, 3, 0, func(t *testing.T, w *network) {
		w.nodes["n1"].get(func() { w.nodes["n1"].leads = 0 })
		for _, id := range w.ids {
			w.want(id, quorum.ErrNoLeader)
		}
	})
}

// TestANodeThatLagsIsBehind answers neither with old state nor for ever late.
func TestANodeThatLagsIsBehind(t *testing.T) {
	bubble(t, 3, 0, func(t *testing.T, w *network) {
		w.nodes["n1"].apply(20)
		w.want("n2", quorum.ErrBehind)
		time.AfterFunc(500*time.Millisecond, func() { w.nodes["n2"].apply(20) })
		w.want("n2", nil)
	})
}

// TestConfirmedIsWhenTheRoundBegan, and only what was applied here counts.
func TestConfirmedIsWhenTheRoundBegan(t *testing.T) {
	bubble(t, 3, 0, func(t *testing.T, w *network) {
		b := w.nodes["n2"].barrier
		if c := b.Confirmed(); !c.Began.IsZero() {
			t.Errorf("before any round: %v", c)
		}
		w.want("n2", nil)
		first := b.Confirmed()
		time.Sleep(time.Minute)
		w.nodes["n1"].apply(11)
		w.want("n2", quorum.ErrBehind)
		if c := b.Confirmed(); c != first {
			t.Errorf("a round whose index was not applied counts: %v", c)
		}
		began := time.Now()
		time.AfterFunc(700*time.Millisecond, func() { w.nodes["n2"].apply(11) })
		w.want("n2", nil)
		if c := b.Confirmed(); c != (readindex.Confirmation{Began: began, Index: 11}) {
			t.Errorf("confirmed: %v, wanted %v", c, began)
		}
	})
}

// TestAnOldFailureSaysNothingOfNow gives the first read after a quiet time its whole second, though rounds failed last.
func TestAnOldFailureSaysNothingOfNow(t *testing.T) {
	bubble(t, 3, 0, func(t *testing.T, w *network) {
		w.cut("n1")
		w.want("n2", quorum.ErrNoLeader)
		start := time.Now()
		w.want("n2", quorum.ErrNoLeader)
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Errorf("a read while the leader is known to be lost took %v", took)
		}
		time.Sleep(time.Hour)
		time.AfterFunc(500*time.Millisecond, func() { w.mend("n1") })
		w.want("n2", nil)
	})
}

// TestNodesOfAnotherClusterAreNotAnswered though their certificates are of the same region.
func TestNodesOfAnotherClusterAreNotAnswered(t *testing.T) {
	bubble(t, 2, 0, func(t *testing.T, w *network) {
		stranger := readindex.New(readindex.Config{
			Self: "n1", Node: w.nodes["n1"], Dial: w.nodes["n1"].barrier.Dial,
			Cluster: func() readindex.ClusterID { return readindex.IDOf("another") },
		})
		defer stranger.Close()
		if err := stranger.Wait(t.Context()); !errors.Is(err, quorum.ErrNoLeader) {
			t.Errorf("a leader of another cluster was confirmed: %v", err)
		}
	})
}
