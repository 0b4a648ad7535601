package e2e_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/hashicorp/raft"

	"coffer/cluster/raftlog"
	"coffer/fsm"
	"coffer/internal/testcluster"
)

// openLog opens the log of a node that is not running.
func openLog(t *testing.T, n *testcluster.Node) *raftlog.Log {
	t.Helper()
	fail := func(err error) { t.Error(err) }
	return must(raftlog.Open(n.Data, raftlog.Options{
		Log: slog.New(slog.DiscardHandler), Used: true, OnDamage: fail, OnFatal: fail, OnHung: fail,
	}))(t)
}

// putIntoLog appends an entry to the log of the node that has the longest one, and returns that node. No node that
// lacks the entry can be elected with its vote.
func putIntoLog(t *testing.T, nodes []*testcluster.Node, entry []byte) *testcluster.Node {
	t.Helper()
	var longest *testcluster.Node
	var last raft.Log
	for _, n := range nodes {
		l := openLog(t, n)
		index := must(l.LastIndex())(t)
		var e raft.Log
		noError(t, l.GetLog(index, &e))
		if longest == nil || e.Term > last.Term || e.Term == last.Term && index > last.Index {
			longest, last = n, e
		}
		noError(t, l.Close())
	}
	l := openLog(t, longest)
	noError(t, l.StoreLog(&raft.Log{Index: last.Index + 1, Term: last.Term, Type: raft.LogCommand, Data: entry}))
	noError(t, l.Close())
	return longest
}

// skipFlag is what the message of a node that has stopped applying says.
var skipFlag = regexp.MustCompile(`--skip-entry (\d+:[0-9a-f]{16})`)

// TestAnEntryThatCantBeApplied has a command in the log that no node knows. Three processes go on and answer reads, not
// marked as stale; writes get a 503 that says why; restarts change nothing. When the entry is given up on every
// node, the region is as it was before.
func TestAnEntryThatCantBeApplied(t *testing.T) {
	c := startCluster(t, 3)
	create(t, c.Balanced(), "precious", "v")
	for _, n := range c.Nodes {
		n.Stop()
	}
	kind999 := []byte{
		0xa4, 1, 0x50, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 2, 0x19, 0x03, 0xe7, 3, 0xa0, 4, 0,
	}
	first := putIntoLog(t, c.Nodes, fsm.EncodeEntry([][]byte{kind999}))

	flag := ""
	awaitHalted := func(n *testcluster.Node) {
		t.Helper()
		noError(t, testcluster.Eventually(ctx(t, time.Minute), n.ID+" to stop applying", func() error {
			status, body, err := n.Get("/readyz")
			if err != nil || status != http.StatusServiceUnavailable || body != "not ready: halted\n" {
				return fmt.Errorf("%d %q %w", status, body, err)
			}
			found := skipFlag.FindStringSubmatch(operate(t, n, "cluster", "status"))
			if found == nil {
				return errors.New("its status does not name the entry")
			}
			flag = found[1]
			return nil
		}))
	}
	noError(t, first.Start())
	for _, n := range c.Nodes { // the first cannot be outvoted by the two others
		if n != first {
			noError(t, n.Start())
			awaitHalted(first)
		}
	}
	for _, n := range c.Nodes {
		awaitHalted(n)
	}
	check := func() {
		t.Helper()
		for _, n := range c.Nodes {
			in := &secretsmanager.GetSecretValueInput{SecretId: aws.String("precious")}
			strong := n.Client(testcluster.Once, withHeader("X-Coffer-Consistency", "strong"))
			noError(t, testcluster.Eventually(ctx(t, time.Minute), n.ID+" to read", func() error {
				got, err := strong.GetSecretValue(t.Context(), in)
				if err == nil && *got.SecretString != "v" {
					t.Errorf("%s reads %q", n.ID, *got.SecretString)
				}
				return err
			}))
			_, err := n.Client(testcluster.Once).PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
				SecretId: in.SecretId, SecretString: aws.String("w"),
			})
			if said := fmt.Sprint(err); !strings.Contains(said, "StatusCode: 503") ||
				!strings.Contains(said, "an operator has to act") {
				t.Errorf("%s: a write: %v", n.ID, err)
			}
			select {
			case <-n.Exited():
				t.Errorf("%s has ended:\n%s", n.ID, n.LogTail())
			default:
			}
		}
	}
	check()
	out, err := first.Operate(t.Context(), "cluster", "status")
	if err != nil || strings.Count(out, "--skip-entry "+flag) < 3 {
		t.Errorf("the status does not say what to do on each node: %v\n%s", err, out)
	}
	for _, n := range c.Nodes {
		n.Kill()
		noError(t, n.Start())
	}
	for _, n := range c.Nodes {
		awaitHalted(n)
	}
	check()

	for _, n := range c.Nodes {
		n.Stop()
		n.Env = append(n.Env, "COFFER_SKIP_ENTRY="+flag)
	}
	for _, n := range c.Nodes {
		noError(t, n.Start())
	}
	noError(t, c.AwaitReady(ctx(t, time.Minute)))
	put(t, c.Balanced(), secretsmanager.PutSecretValueInput{
		SecretId: aws.String("precious"), SecretString: aws.String("w"),
	})
	for _, n := range c.Nodes {
		if got := get(t, n.Client(), secretsmanager.GetSecretValueInput{
			SecretId: aws.String("precious"),
		}); *got.SecretString != "w" {
			t.Errorf("%s reads %q", n.ID, *got.SecretString)
		}
	}
	n := c.Nodes[0]
	n.Stop()
	n.Env = append(n.Env, "COFFER_SKIP_ENTRY=12:34")
	noError(t, n.Start())
	if n.Wait() == 0 || !strings.Contains(n.LogTail(), "wanted INDEX:CHECKSUM") {
		t.Error(errors.New("a wrong --skip-entry is taken"), n.LogTail())
	}
}
