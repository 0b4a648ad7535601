package node_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"coffer/node"
)

// TestJobGoesOnAfterMistake has every second run of a job panic.
func TestJobGoesOnAfterMistake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second+time.Millisecond)
		defer cancel()
		runs := 0
		node.Repeat(ctx, slog.New(slog.NewTextHandler(&log, nil)), time.Second, func(context.Context) {
			if runs++; runs%2 == 0 {
				panic("clumsy")
			}
		})
		text := log.String()
		if runs != 10 || strings.Count(text, "level=ERROR") != 5 || strings.Contains(text, "clumsy") ||
			!strings.Contains(text, "TestJobGoesOnAfterMistake") {
			t.Errorf("%d runs, the log: %s", runs, text)
		}
	})
}
