package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"coffer/internal/testcluster"
)

// wantMembers compares what `coffer cluster members` lists with the wanted nodes: true for a voter.
func wantMembers(out string, want map[string]bool) error {
	got := map[string]bool{}
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) >= 2 && fields[0] != "NODE" {
			got[fields[0]] = fields[1] != "learner"
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		return fmt.Errorf("members: %s\n%s", diff, out)
	}
	return nil
}

// awaitMembers waits until a node lists the wanted members.
func awaitMembers(t *testing.T, n *testcluster.Node, want map[string]bool) {
	t.Helper()
	noError(t, testcluster.Eventually(ctx(t, 30*time.Second), "the wanted members", func() error {
		out, err := n.Operate(t.Context(), "cluster", "members")
		if err != nil {
			return err
		}
		return wantMembers(out, want)
	}))
}
