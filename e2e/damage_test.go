package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"go.etcd.io/bbolt"

	"coffer/internal/testcluster"
)

// flip changes one byte of a row's value that contains part, in a bucket of a bbolt file.
func flip(t *testing.T, file, bucket string, part []byte) {
	t.Helper()
	db := must(bbolt.Open(file, 0o600, &bbolt.Options{Timeout: time.Second}))(t)
	defer db.Close()
	noError(t, db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		c := b.Cursor()
		for k, v := c.Last(); k != nil; k, v = c.Prev() {
			if !bytes.Contains(v, part) && !bytes.Contains(k, part) {
				continue
			}
			damaged := bytes.Clone(v)
			damaged[len(damaged)/2] ^= 0x10
			return b.Put(k, damaged)
		}
		return errors.New("no such row")
	}))
}

// TestDamageIsFoundAndRebuilt flips a byte in a stopped node's store, and in its log: the node never serves
// it, says what is wrong, refuses to start on it, and is rebuilt from the others.
func TestDamageIsFoundAndRebuilt(t *testing.T) {
	for name, damage := range map[string]func(*testing.T, *testcluster.Node){
		"a secret's row": func(t *testing.T, n *testcluster.Node) {
			flip(t, filepath.Join(n.Data, "state.db"), "secrets", []byte("precious"))
		},
		"a value's row": func(t *testing.T, n *testcluster.Node) {
			flip(t, filepath.Join(n.Data, "state.db"), "values", nil)
		},
		"a log entry": func(t *testing.T, n *testcluster.Node) {
			flip(t, filepath.Join(n.Data, "raft.db"), "logs", []byte("precious"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := startCluster(t, 3)
			create(t, c.Balanced(), "precious", "v")
			n := c.Nodes[1]
			get(t, n.Client(), secretsmanager.GetSecretValueInput{SecretId: aws.String("precious")}) // it has arrived
			n.Stop()
			damage(t, n)
			noError(t, n.Start())
			local := n.Client(testcluster.Once, withHeader("X-Coffer-Consistency", "local"))
			ended := ctx(t, 30*time.Second)
			for running := true; running; { // reading may find it, and so does the scrub at the start
				got, err := local.GetSecretValue(ended, &secretsmanager.GetSecretValueInput{SecretId: aws.String("precious")})
				if err == nil && *got.SecretString != "v" {
					t.Fatalf("a damaged value was served: %q", *got.SecretString)
				}
				select {
				case <-n.Exited():
					running = false
				case <-ended.Done():
					t.Fatal("the damage was not found")
				case <-time.After(10 * time.Millisecond):
				}
			}
			if code := n.Wait(); code == 0 {
				t.Error("the node ended as if nothing were wrong")
			}
			what := must(os.ReadFile(filepath.Join(n.Data, "DAMAGED")))(t)
			if !strings.Contains(string(what), "checksum") {
				t.Errorf("the mark does not say what is damaged: %s", what)
			}
			noError(t, n.Start())
			if code := n.Wait(); code == 0 || !strings.Contains(n.LogTail(), "must be rebuilt") {
				t.Errorf("a node with damaged data started: exit code %d", code)
			}
			noError(t, n.Wipe())
			noError(t, n.Start())
			noError(t, n.AwaitReady(ctx(t, time.Minute)))
			if got := get(t, n.Client(), secretsmanager.GetSecretValueInput{
				SecretId: aws.String("precious"),
			}); *got.SecretString != "v" {
				t.Error("the rebuilt node has another value")
			}
			verify(t, c)
		})
	}
}

// TestNodeWhoseStateDiffersIsRebuilt alters one node's state so that its checksums are right: only comparing
// the nodes' digests can tell. The node finds that a majority agrees on another one, keeps its files aside and takes
// everything anew.
func TestNodeWhoseStateDiffersIsRebuilt(t *testing.T) {
	c := startCluster(t, 3)
	create(t, c.Balanced(), "precious", "v")
	verify(t, c)
	n := c.Nodes[2]
	n.Stop()
	file := filepath.Join(n.Data, "state.db")
	db := must(bbolt.Open(file, 0o600, &bbolt.Options{Timeout: time.Second}))(t)
	noError(t, db.Update(divert))
	noError(t, db.Close())
	noError(t, n.Start())
	pid := n.PID()
	noError(t, testcluster.Eventually(ctx(t, 90*time.Second), "the files to be kept aside", func() error {
		_, _ = c.Nodes[0].Operate(t.Context(), "cluster", "verify") // it says that states differ while they do
		kept, err := filepath.Glob(filepath.Join(n.Data, "damaged-*", "state.db"))
		if err == nil && len(kept) != 1 {
			err = fmt.Errorf("kept aside: %v", kept)
		}
		return err
	}))
	noError(t, n.AwaitReady(ctx(t, time.Minute)))
	verify(t, c)
	if n.PID() != pid {
		t.Error("the process ended")
	}
	if got := get(t, n.Client(), secretsmanager.GetSecretValueInput{
		SecretId: aws.String("precious"),
	}); *got.SecretString != "v" {
		t.Error("the rebuilt node has another value")
	}
	awaitMembers(t, n, map[string]bool{"n1": true, "n2": true, "n3": true})
}

// TestSnapshotRestore saves a snapshot while writes go on, and restores it onto a new cluster with the same
// root key; damaged and foreign archives are refused and change nothing.
func TestSnapshotRestore(t *testing.T) {
	c := startCluster(t, 3)
	w := startWorkload(t, c)
	create(t, c.Balanced(), "kept", "v1")
	w.progress()
	file := filepath.Join(c.Dir, "archive")
	operate := func(n *testcluster.Node, args ...string) (string, error) { return n.Operate(t.Context(), args...) }
	if out, err := operate(c.Nodes[1], "snapshot", "save", file); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.progress()
	w.finish()
	if out, err := operate(c.Nodes[0], "snapshot", "save", file); err == nil {
		t.Errorf("a snapshot was overwritten: %s", out)
	}
	put(t, c.Balanced(), secretsmanager.PutSecretValueInput{SecretId: aws.String("kept"), SecretString: aws.String("v2")})

	whole := must(os.ReadFile(file))(t)
	damaged := filepath.Join(c.Dir, "damaged")
	for _, at := range []int{0, 20, len(whole) / 2, len(whole) - 60, len(whole) - 1} {
		b := bytes.Clone(whole)
		b[at] ^= 1
		noError(t, os.WriteFile(damaged, b, 0o600))
		if out, err := operate(c.Nodes[0], "snapshot", "restore", damaged); err == nil {
			t.Errorf("an archive with byte %d changed was restored: %s", at, out)
		}
	}
	noError(t, os.WriteFile(damaged, whole[:len(whole)-1], 0o600))
	if out, err := operate(c.Nodes[0], "snapshot", "restore", damaged); err == nil {
		t.Errorf("an archive that was cut off was restored: %s", out)
	}
	if got := get(t, c.Balanced(), secretsmanager.GetSecretValueInput{
		SecretId: aws.String("kept"),
	}); *got.SecretString != "v2" {
		t.Error("a refused archive changed the state")
	}

	foreign := startCluster(t, 1)
	create(t, foreign.Balanced(), "foreign", "f")
	if out, err := operate(foreign.Nodes[0], "snapshot", "restore", file); err == nil ||
		!strings.Contains(out, "root key") {
		t.Errorf("an archive under another root key was restored: %s", out)
	}
	get(t, foreign.Balanced(), secretsmanager.GetSecretValueInput{SecretId: aws.String("foreign")})

	next := newCluster(t, 3)
	noError(t, next.UseKeysOf(c))
	noError(t, next.Start(ctx(t, time.Minute)))
	create(t, next.Balanced(), "replaced", "r")
	if out, err := operate(next.Nodes[2], "snapshot", "restore", file); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	noError(t, next.AwaitReady(ctx(t, time.Minute))) // no node is, while it does not know that the restore is committed
	for _, n := range next.Nodes {
		if got := get(t, n.Client(), secretsmanager.GetSecretValueInput{
			SecretId: aws.String("kept"),
		}); *got.SecretString != "v1" {
			t.Errorf("%s has %q after restoring", n.ID, *got.SecretString)
		}
		_, err := n.Client().GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{
			SecretId: aws.String("replaced"),
		})
		wantCode(t, err, "ResourceNotFoundException", "")
	}
	put(t, next.Balanced(), secretsmanager.PutSecretValueInput{
		SecretId: aws.String("kept"), SecretString: aws.String("v3"),
	})
	for _, n := range next.Nodes {
		n.Kill()
		noError(t, n.Start())
	}
	noError(t, next.AwaitReady(ctx(t, time.Minute)))
	if got := get(t, next.Balanced(), secretsmanager.GetSecretValueInput{
		SecretId: aws.String("kept"),
	}); *got.SecretString != "v3" {
		t.Errorf("after a restart: %q", *got.SecretString)
	}
	verify(t, next)
}
