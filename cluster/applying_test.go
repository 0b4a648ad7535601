package cluster_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"coffer/cluster"
)

// TestAnEntryThatTakesLongIsToldOf has entries applied, each quickly, and then one that takes long: the node says
// which, in its log and as not ready, and that it is over. No number of quick ones makes it say so.
func TestAnEntryThatTakesLongIsToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var at atomic.Uint64
		var log lines
		ready := cluster.WatchApplying(ctx, slog.New(slog.NewTextHandler(&log, nil)),
			func() (index, sum uint64) { return at.Load(), 0xabc })
		pass := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		for range 100 {
			at.Add(1)
			pass(900 * time.Millisecond)
		}
		at.Store(7000)
		pass(9 * time.Second)
		if err := ready(); err != nil || log.String() != "" {
			t.Errorf("too soon: %v, %s", err, log.String())
		}
		pass(3 * time.Second)
		var why *cluster.NotReady
		if err := ready(); !errors.As(err, &why) || why.Class != cluster.Applying ||
			!strings.Contains(err.Error(), "7000:0000000000000abc") {
			t.Errorf("after 12 s: %v", err)
		}
		pass(time.Minute)
		if n := strings.Count(log.String(), "takes long"); n < 6 || n > 8 {
			t.Errorf("it was logged %d times in 72 s", n)
		}
		at.Store(7001)
		pass(2 * time.Second)
		if err := ready(); err != nil || !strings.Contains(log.String(), "is applied now") {
			t.Errorf("when it is over: %v", err)
		}
	})
}
