package e2e_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"coffer/internal/testcluster"
)

// recovered runs `coffer cluster recover` on a node's data and wants it to succeed.
func recovered(t *testing.T, n *testcluster.Node, args ...string) string {
	t.Helper()
	out, err := n.Recover(t.Context(), args...)
	if err != nil {
		t.Fatalf("recover %v: %v: %s", args, err, out)
	}
	return out
}

// refusedRecovery runs it and wants it to be refused, and to say why.
func refusedRecovery(t *testing.T, n *testcluster.Node, why string, args ...string) {
	t.Helper()
	if out, err := n.Recover(t.Context(), args...); err == nil || !strings.Contains(out, why) {
		t.Errorf("recover %v: %v, wanted a refusal that says %q: %s", args, err, why, out)
	}
}

// TestALostMajorityIsRecovered loses two of three nodes. The survivor becomes the region and takes writes alone. A
// former member that returns with its data, and another survivor that was recovered too, are refused by it and refuse
// it, until they are emptied: then they join and have everything.
func TestALostMajorityIsRecovered(t *testing.T) {
	c := startCluster(t, 3)
	for i := range 5 {
		create(t, c.Balanced(), fmt.Sprint("kept/", i), "before")
	}
	survivor, other, old := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	get(t, survivor.Client(), secretsmanager.GetSecretValueInput{SecretId: aws.String("kept/4")}) // it has all of them

	refusedRecovery(t, survivor, "in use", "--yes")
	survivor.Kill()
	refusedRecovery(t, survivor, "either", "--yes", "--inspect")
	if out := recovered(t, survivor, "--inspect"); !strings.Contains(out, "n1, n2, n3") && !strings.Contains(out, "term") {
		t.Errorf("what the survivor has is not said: %s", out)
	}
	refusedRecovery(t, survivor, "n2, n3", "--yes") // they are a majority
	other.Kill()
	old.Kill()
	for _, n := range []*testcluster.Node{survivor, other} {
		recovered(t, n, "--yes")
	}

	noError(t, survivor.Start())
	noError(t, survivor.AwaitReady(ctx(t, time.Minute)))
	in := secretsmanager.PutSecretValueInput{SecretId: aws.String("kept/0"), SecretString: aws.String("after")}
	put(t, survivor.Client(), in)
	noError(t, other.Start())
	noError(t, old.Start())
	noError(t, testcluster.Eventually(ctx(t, time.Minute), "the old member to be refused", func() error {
		status, _, err := old.Get("/readyz")
		if err == nil && (status == http.StatusOK || !strings.Contains(old.LogTail(), "of cluster")) {
			err = errors.New("it does not say that it is of another cluster")
		}
		return err
	}))
	awaitMembers(t, survivor, map[string]bool{"n1": true})
	awaitMembers(t, other, map[string]bool{"n2": true})
	in.SecretString = aws.String("after all")
	put(t, survivor.Client(), in)

	for _, n := range []*testcluster.Node{other, old} {
		n.Kill()
		noError(t, n.Wipe())
	}
	for _, n := range []*testcluster.Node{other, old} {
		noError(t, n.Start())
	}
	noError(t, c.AwaitReady(ctx(t, time.Minute)))
	awaitMembers(t, survivor, map[string]bool{"n1": true, "n2": true, "n3": true})
	for _, n := range c.Nodes {
		for i, want := range []string{"after all", "before", "before", "before", "before"} {
			got := get(t, n.Client(), secretsmanager.GetSecretValueInput{SecretId: aws.String(fmt.Sprint("kept/", i))})
			if *got.SecretString != want {
				t.Errorf("%s has %q of kept/%d, wanted %q", n.ID, *got.SecretString, i, want)
			}
		}
	}
	verify(t, c)
}
