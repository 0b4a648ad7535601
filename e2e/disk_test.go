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

// TestAFailedSyncEndsTheNode fails the syncs of a node's log, then of another's term, under load: the node ends at once,
// since what it wrote may be lost though it can be read and though the next sync succeeds. Then all lose power, and what
// was acknowledged is there. It needs root, for the nodes' file systems.
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
	w.finish()
	verify(t, c)
}

// injectSync makes a node's syncs of a file fail or wait (testcluster.Node.InjectSync).
func injectSync(t *testing.T, n *testcluster.Node, file, how string) (stop func()) {
	t.Helper()
	stop = must(n.InjectSync(file, how))(t)
	t.Cleanup(stop)
	return stop
}

// TestAHungDiskCostsTheLeadership hangs the syncs of the leader's log: another leads and writes go on while that process
// can't even be ended, and nobody waits for it at its ports.
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
