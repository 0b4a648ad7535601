package e2e_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"coffer/internal/testcluster"
)

// binary is the coffer binary under test.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "coffer-test-")
	if err == nil {
		binary, err = testcluster.Build(context.Background(), dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// newCluster prepares a cluster of real processes that ends with the test.
func newCluster(t *testing.T, nodes int, args ...string) *testcluster.Cluster {
	t.Helper()
	c, err := testcluster.New(t.TempDir(), binary, nodes, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		for _, n := range c.Nodes {
			if race := n.Race(); race != "" {
				t.Errorf("%s: %s", n.ID, race)
			}
		}
		if t.Failed() {
			for _, n := range c.Nodes {
				t.Logf("the end of %s's log:\n%s", n.ID, n.LogTail())
			}
		}
	})
	return c
}

func startCluster(t *testing.T, nodes int, args ...string) *testcluster.Cluster {
	t.Helper()
	c := newCluster(t, nodes, args...)
	if err := c.Start(ctx(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c
}

// ctx ends with the test, or after limit.
func ctx(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// must is for calls that have to succeed: must(f())(t).
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
