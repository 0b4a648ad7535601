package cluster_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coffer/cluster"
)

// TestNobodysProposalsAreDropped has the log stall while more commands come than fit into the queue: whoever gives
// up is answered at his deadline, and when the log goes on, only what somebody waits for is carried out, at once.
func TestNobodysProposalsAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		const patience = 5 * time.Second
		goesOn := time.Now().Add(time.Minute)
		var mu sync.Mutex
		carried := map[string]bool{}
		submit, dropped := cluster.RunProposer(ctx, func(commands [][]byte) {
			time.Sleep(max(time.Until(goesOn), time.Millisecond))
			mu.Lock()
			defer mu.Unlock()
			for _, c := range commands {
				carried[string(c)] = true
			}
		})
		send := func(name string) error {
			began := time.Now()
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			err := submit(ctx, []byte(name))
			if waited := time.Since(began); waited > patience {
				t.Errorf("%s was answered after %v", name, waited)
			}
			return err
		}
		var early sync.WaitGroup
		for i := range 3000 {
			early.Go(func() {
				if send(fmt.Sprint("early ", i)) == nil {
					t.Errorf("early %d is said to be done", i)
				}
			})
		}
		early.Wait()
		time.Sleep(time.Until(goesOn) - time.Second)
		if err := send("late"); err != nil || time.Since(goesOn) > time.Second {
			t.Errorf("the late one: %v, %v after the log went on", err, time.Since(goesOn))
		}
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		// What was on its way when the log stalled (two batches of at most 256, and one command taken for the next) was still
		// waited for then.
		if len(carried) > 2*256+2 || dropped() < 500 || !carried["late"] {
			t.Errorf("%d carried out, %d dropped", len(carried), dropped())
		}
	})
}
