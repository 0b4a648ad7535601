package node_test

import (
	"fmt"
	"strings"

	"github.com/google/go-cmp/cmp"
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
