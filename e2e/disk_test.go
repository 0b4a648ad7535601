package e2e_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"coffer/internal/testcluster"
)

// onDisks gives every node of a cluster that has not started a file system that can lose power.
func onDisks(t *testing.T, c *testcluster.Cluster) []*testcluster.Disk {
	t.Helper()
	var disks []*testcluster.Disk
	t.Cleanup(func() {
		c.Close()
		for _, d := range disks {
			if err := d.Unmount(); err != nil {
				t.Error(err)
			}
		}
	})
	for _, n := range c.Nodes {
		disks = append(disks, must(testcluster.NewDisk(filepath.Join(c.Dir, n.ID+".img"), n.Data))(t))
	}
	return disks
}

// losePower takes the power from all nodes at once, and starts them again.
func losePower(t *testing.T, c *testcluster.Cluster, disks []*testcluster.Disk) {
	t.Helper()
	for _, d := range disks {
		noError(t, d.LosePower())
	}
	for _, n := range c.Nodes {
		n.Signal(syscall.SIGKILL)
	}
	for i, n := range c.Nodes {
		n.Wait()
		noError(t, disks[i].Unmount())
		noError(t, disks[i].Mount())
		noError(t, n.Start())
	}
	noError(t, c.AwaitReady(ctx(t, time.Minute)))
}

// endsUnmarked waits until a node ends because its disk does not take writes as it should.
func endsUnmarked(t *testing.T, n *testcluster.Node, why string) {
	t.Helper()
	select {
	case <-n.Exited():
	case <-ctx(t, 30*time.Second).Done():
		t.Fatalf("%s goes on; its log:\n%s", n.ID, n.LogTail())
	}
	if code := n.Wait(); code != 1 || !strings.Contains(n.LogTail(), why) {
		t.Errorf("%s ended with exit code %d, wanted 1 and %q in its log:\n%s", n.ID, code, why, n.LogTail())
	}
	if _, err := os.Stat(filepath.Join(n.Data, "DAMAGED")); err == nil {
		t.Errorf("%s is marked as damaged", n.ID)
	}
}

// TestAFailedSyncEndsTheNode fails the syncs of a node's log, then of another's term, then of a state, under load:
// the node ends at once, since what it wrote may be lost though it can be read and though the next sync succeeds.
// Then all lose power, and what was acknowledged is there. It needs root, for the nodes' file systems.
func TestAFailedSyncEndsTheNode(t *testing.T) {
	c := newCluster(t, 3)
	disks := onDisks(t, c)
	noError(t, c.Start(ctx(t, time.Minute)))
	w := startWorkload(t, c)
	w.progress()

	n := must(c.Leader(ctx(t, time.Minute)))(t)
	injectSync(t, n, "raft.db", "error=EIO")
	endsUnmarked(t, n, "a write of the Raft log failed")
	w.progress()
	losePower(t, c, disks)
	w.progress()

	leader := must(c.Leader(ctx(t, time.Minute)))(t)
	n = c.Nodes[0]
	if n == leader {
		n = c.Nodes[1]
	}
	injectSync(t, n, "raft-state", "error=EIO")
	leader.Kill() // the next term is to be kept
	endsUnmarked(t, n, "raft-state")
	losePower(t, c, disks)
	w.progress()

	n = must(c.Leader(ctx(t, time.Minute)))(t)
	injectSync(t, n, "state.db", "error=EIO")
	endsUnmarked(t, n, "a write to the state store failed")
	losePower(t, c, disks)
	w.progress()
	w.finish()
	verify(t, c)
}

// TestAFullDiskStopsWritesOnly fills the only node's disk: values, lists and snapshots are answered, it stops in
// order and starts again, and with space again writes go on. It needs root, for the node's file system.
func TestAFullDiskStopsWritesOnly(t *testing.T) {
	c := newCluster(t, 1)
	disks := onDisks(t, c)
	noError(t, c.Start(ctx(t, time.Minute)))
	n := c.Nodes[0]
	create(t, n.Client(), "kept", "v")
	filler := filepath.Join(n.Data, "filler")
	fill := func() {
		f := must(os.OpenFile(filler, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600))(t)
		for block := make([]byte, 1<<20); len(block) > 0; { // to the last byte
			if _, err := f.Write(block); err != nil {
				block = block[:len(block)/2]
			}
		}
		noError(t, f.Close())
	}
	fill()
	local := n.Client(testcluster.Once, withHeader("X-Coffer-Consistency", "local"))
	reads := func(when string) {
		t.Helper()
		got := get(t, local, secretsmanager.GetSecretValueInput{SecretId: aws.String("kept")})
		list, err := local.ListSecrets(t.Context(), &secretsmanager.ListSecretsInput{})
		noError(t, err)
		if *got.SecretString != "v" || len(list.SecretList) != 1 {
			t.Errorf("%s: the value %q, %d secrets", when, *got.SecretString, len(list.SecretList))
		}
	}
	for range 3 { // what is refused may leave something to be stored
		put := &secretsmanager.PutSecretValueInput{SecretId: aws.String("kept"), SecretString: aws.String("w")}
		if _, err := n.Client(testcluster.Once).PutSecretValue(t.Context(), put); err == nil {
			t.Error("a write was taken")
		}
	}
	reads("with a full disk")
	n.Signal(syscall.SIGTERM)
	select {
	case <-n.Exited():
	case <-ctx(t, 30*time.Second).Done():
		t.Fatalf("the node does not stop; its log:\n%s", n.LogTail())
	}
	noError(t, os.Remove(filepath.Join(n.Data, "node.json"))) // what it leaves is filled too
	fill()
	noError(t, n.Start())
	noError(t, testcluster.Eventually(ctx(t, 30*time.Second), "reads after a start", func() error {
		_, err := local.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("kept")})
		return err
	}))
	reads("started with a full disk")
	noError(t, os.Remove(filler))
	noError(t, n.AwaitReady(ctx(t, time.Minute)))
	put(t, n.Client(), secretsmanager.PutSecretValueInput{SecretId: aws.String("kept"), SecretString: aws.String("x")})
	losePower(t, c, disks)
	got := get(t, n.Client(), secretsmanager.GetSecretValueInput{SecretId: aws.String("kept")})
	if *got.SecretString != "x" {
		t.Errorf("after a power loss: %q", *got.SecretString)
	}
}

// injectSync makes a node's syncs of a file fail or wait (testcluster.Node.InjectSync).
func injectSync(t *testing.T, n *testcluster.Node, file, how string) (stop func()) {
	t.Helper()
	stop = must(n.InjectSync(file, how))(t)
	t.Cleanup(stop)
	return stop
}

// TestAHungDiskCostsTheLeadership hangs the syncs of the leader's log: another leads and writes go on while that
// process can't even be ended, and nobody waits for it at its ports.
func TestAHungDiskCostsTheLeadership(t *testing.T) {
	c := startCluster(t, 3)
	w := startWorkload(t, c)
	w.progress()
	leader := must(c.Leader(ctx(t, time.Minute)))(t)
	answers := injectSync(t, leader, "raft.db", "delay_enter=600s")
	noError(t, testcluster.Eventually(ctx(t, time.Minute), "the leader to close its ports", func() error {
		for _, addr := range []string{leader.PeerAddr(), strings.TrimPrefix(leader.Endpoint, "http://")} {
			if conn, err := net.Dial("tcp", addr); err == nil {
				return errors.Join(fmt.Errorf("%s is open", addr), conn.Close())
			}
		}
		return nil
	}))
	w.progress()
	next := must(c.Leader(ctx(t, time.Minute)))(t)
	select {
	case <-leader.Exited():
		t.Error("the process ended: nothing was hung")
	default:
	}
	if next == leader {
		t.Error("the node with the hung disk leads")
	}
	answers()
	endsUnmarked(t, leader, "has not finished a write for 5s")
	noError(t, leader.Start())
	noError(t, leader.AwaitReady(ctx(t, time.Minute)))
	w.progress()
	w.finish()
	verify(t, c)
}
