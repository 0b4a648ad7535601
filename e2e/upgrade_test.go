package e2e_test

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"coffer/cluster/pki"
	"coffer/internal/testcluster"
)

// next builds the binary that has the format after the newest one.
func next(t *testing.T) string {
	t.Helper()
	return must(testcluster.BuildWith(t.Context(), t.TempDir(), "nextformat"))(t)
}

// restartAs stops a node and starts it as another binary, under the workload.
func restartAs(t *testing.T, w *workload, n *testcluster.Node, binary string) {
	t.Helper()
	n.Stop()
	n.Binary = binary
	noError(t, n.Start())
	noError(t, n.AwaitReady(ctx(t, time.Minute)))
	w.progress()
}

// TestUpgrade rolls a region to the next format under load and back, up again in the other order, and raises the
// format. What the format brings is refused before, and there is no way back afterwards.
func TestUpgrade(t *testing.T) {
	binary2 := next(t)
	c := startCluster(t, 3)
	created := create(t, c.Balanced(), "tagged", "v")
	w := startWorkload(t, c)
	w.progress()

	// Up, the leader last, and back, the leader first. Nothing of the next format gets into the log meanwhile.
	leader := must(c.Leader(ctx(t, time.Minute)))(t)
	for _, n := range append(others(c, leader), leader) {
		restartAs(t, w, n, binary2)
		refusedNext(t, c, n)
	}
	leader = must(c.Leader(ctx(t, time.Minute)))(t)
	for _, n := range append([]*testcluster.Node{leader}, others(c, leader)...) {
		restartAs(t, w, n, binary)
	}
	verify(t, c)

	// Up again, the leader first. A member that has not proven that it reads the format is in the way, down or not.
	leader = must(c.Leader(ctx(t, time.Minute)))(t)
	rest := others(c, leader)
	last := rest[len(rest)-1]
	for _, n := range append([]*testcluster.Node{leader}, rest[:len(rest)-1]...) {
		restartAs(t, w, n, binary2)
	}
	for _, what := range []string{"an old member", "a member that is down"} {
		if out, err := raiseFormat(t, c, leader); err == nil || !strings.Contains(out, last.ID) {
			t.Errorf("the format was raised beside %s: %v %s", what, err, out)
		}
		last.Stop()
	}
	last.Binary = binary2
	noError(t, last.Start())
	noError(t, last.AwaitReady(ctx(t, time.Minute)))
	for _, n := range c.Nodes {
		refusedNext(t, c, n)
	}
	if out, err := raiseFormat(t, c, leader); err != nil {
		t.Fatal(err, out)
	}
	w.progress()

	// What the format brings is carried out, on all nodes alike.
	suffix := aws.ToString(created.ARN)[len(aws.ToString(created.ARN))-6:]
	for _, n := range c.Nodes {
		noError(t, proposeNext(t, c, n, "/next/note", url.Values{"text": {n.ID}}))
	}
	noError(t, proposeNext(t, c, last, "/next/tag", url.Values{
		"mark": {"new"}, "account": {c.Credentials.AccountID}, "name": {"tagged"}, "suffix": {suffix}}))
	described := must(c.Balanced().DescribeSecret(t.Context(),
		&secretsmanager.DescribeSecretInput{SecretId: aws.String("tagged")}))(t)
	if len(described.Tags) != 1 || aws.ToString(described.Tags[0].Value) != "new" {
		t.Errorf("the member of the next format did nothing: %v", described.Tags)
	}
	w.finish()
	verify(t, c)

	// An old binary neither starts on this state nor joins it.
	archive := filepath.Join(t.TempDir(), "archive")
	if out, err := last.Operate(t.Context(), "snapshot", "save", archive); err != nil {
		t.Fatal(err, out)
	}
	last.Stop()
	last.Binary = binary
	noError(t, last.Start())
	if last.Wait() == 0 || !strings.Contains(last.LogTail(), "the state has format 2") {
		t.Errorf("an old binary started on a state of format 2: %s", last.LogTail())
	}
	if _, err := os.Stat(filepath.Join(last.Data, "DAMAGED")); err == nil {
		t.Error("its data was marked as damaged")
	}
	noError(t, last.Wipe())
	noError(t, last.Start())
	noError(t, testcluster.Eventually(ctx(t, 30*time.Second), "the refusal", func() error {
		if !strings.Contains(last.LogTail(), "the state has format 2") {
			return fmt.Errorf("%s", last.LogTail())
		}
		return nil
	}))
	last.Stop()
	last.Binary = binary2
	noError(t, last.Start())
	noError(t, c.AwaitReady(ctx(t, time.Minute)))
	verify(t, c)

	// Nor does a region of old binaries take the archive.
	old := newCluster(t, 1)
	noError(t, old.UseKeysOf(c))
	noError(t, old.Start(ctx(t, time.Minute)))
	out, err := old.Nodes[0].Operate(t.Context(), "snapshot", "restore", archive)
	if err == nil || !strings.Contains(out, "the state has format 2") {
		t.Errorf("an archive of format 2 was restored by a binary of format 1: %v %s", err, out)
	}
}

func others(c *testcluster.Cluster, n *testcluster.Node) (others []*testcluster.Node) {
	for _, other := range c.Nodes {
		if other != n {
			others = append(others, other)
		}
	}
	return others
}

func raiseFormat(t *testing.T, c *testcluster.Cluster, n *testcluster.Node) (string, error) {
	t.Helper()
	return n.Operate(t.Context(), "cluster", "raise-format", "2")
}

// refusedNext proposes what the next format brings, and wants it refused: by leaders that don't know it, and by those
// that do.
func refusedNext(t *testing.T, c *testcluster.Cluster, n *testcluster.Node) {
	t.Helper()
	noError(t, testcluster.Eventually(ctx(t, 30*time.Second), "a leader's refusal", func() error {
		err := proposeNext(t, c, n, "/next/note", url.Values{"text": {"too early"}})
		if err == nil {
			t.Fatalf("%s: a command of the next format was carried out before it was raised", n.ID)
		}
		if !strings.Contains(err.Error(), "needs the format 2") && !strings.Contains(err.Error(), "does not know") {
			return err
		}
		return nil
	}))
}

func proposeNext(t *testing.T, c *testcluster.Cluster, n *testcluster.Node, path string, query url.Values) error {
	t.Helper()
	dir := c.OperatorDir()
	cr := must(pki.Load(filepath.Join(dir, pki.CAFile), filepath.Join(dir, pki.CertFile),
		filepath.Join(dir, pki.KeyFile)))(t)
	client := &http.Client{
		Timeout: 20 * time.Second, Transport: &http.Transport{
			TLSClientConfig: cr.Client(c.Region, "", "http/1.1"), DisableKeepAlives: true,
		},
	}
	resp, err := client.Post("https://"+n.PeerAddr()+path+"?"+query.Encode(), "", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text := new(strings.Builder)
		_ = resp.Write(text)
		return fmt.Errorf("%s", text)
	}
	return nil
}
