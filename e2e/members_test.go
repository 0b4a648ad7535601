package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
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

// TestRemovedNodeReturns removes a node that is down and starts it again: it finds out, serves nothing of what it has,
// and says what to do, at the next start, too. Emptied, it joins.
func TestRemovedNodeReturns(t *testing.T) {
	c := startCluster(t, 3)
	create(t, c.Balanced(), "x", "old")
	n := c.Nodes[2]
	get(t, n.Client(), secretsmanager.GetSecretValueInput{SecretId: aws.String("x")}) // it has arrived
	n.Kill()
	if out, err := c.Nodes[0].Operate(t.Context(), "cluster", "remove", n.ID); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	put(t, c.Nodes[0].Client(), secretsmanager.PutSecretValueInput{
		SecretId: aws.String("x"), SecretString: aws.String("new"),
	})
	for range 2 {
		noError(t, n.Start())
		select {
		case <-n.Exited():
		case <-ctx(t, 30*time.Second).Done():
			t.Fatal("a removed node goes on")
		}
		if code := n.Wait(); code == 0 || !strings.Contains(n.LogTail(), "empty its data directory") {
			t.Errorf("exit code %d", code)
		}
	}
	noError(t, n.Wipe())
	noError(t, n.Start())
	noError(t, n.AwaitReady(ctx(t, time.Minute)))
	if got := get(t, n.Client(), secretsmanager.GetSecretValueInput{
		SecretId: aws.String("x"),
	}); *got.SecretString != "new" {
		t.Errorf("got %q", *got.SecretString)
	}
}
