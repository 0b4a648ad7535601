package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"coffer/cluster"
	"coffer/internal/testcluster"
)

// TestOperatorCommands hands leadership over and looks at the cluster through `coffer cluster`.
func TestOperatorCommands(t *testing.T) {
	c := startCluster(t, 3)
	leader := must(c.Leader(ctx(t, time.Minute)))(t)
	to := c.Nodes[0]
	if to == leader {
		to = c.Nodes[1]
	}
	// Asked at a follower: the command finds the leader.
	if out, err := to.Operate(t.Context(), "cluster", "transfer-leader", to.ID); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	noError(t, testcluster.Eventually(ctx(t, 30*time.Second), "the new leader", func() error {
		out, err := c.Nodes[2].Operate(t.Context(), "cluster", "status")
		if err != nil {
			return err
		}
		var s cluster.Status
		noError(t, json.Unmarshal([]byte(out), &s))
		if s.Leader != to.ID || len(s.Members) != 3 || s.Region != testcluster.Region || s.Cluster == "" || s.Ready != "" {
			return fmt.Errorf("status %s", out)
		}
		return nil
	}))
	leaders := 0
	noError(t, testcluster.Eventually(ctx(t, 30*time.Second), "one leader in the metrics", func() error {
		leaders = 0
		for _, n := range c.Nodes {
			if v, err := n.Metric("coffer_raft_leader"); err != nil {
				return err
			} else if v == "1" {
				leaders++
			}
		}
		if leaders != 1 {
			return fmt.Errorf("%d leaders", leaders)
		}
		return nil
	}))
	if out, err := c.Nodes[0].Operate(t.Context(), "cluster", "remove", "nobody"); err == nil ||
		!strings.Contains(out, "not a member") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestNoCoreDumps reads the limits of a running node.
func TestNoCoreDumps(t *testing.T) {
	c := startCluster(t, 1)
	limits := must(os.ReadFile(fmt.Sprintf("/proc/%d/limits", c.Nodes[0].PID())))(t)
	for line := range strings.Lines(string(limits)) {
		if strings.HasPrefix(line, "Max core file size") {
			if f := strings.Fields(line); f[4] != "0" || f[5] != "0" {
				t.Error(line)
			}
			return
		}
	}
	t.Error(errors.New("no limit for core files"))
}

// TestFullDisk fills a node's disk: the node says so, the region goes on without it, and when there is space
// again the node catches up.
func TestFullDisk(t *testing.T) {
	c := newCluster(t, 3)
	n := c.Nodes[2]
	disk := must(testcluster.NewDisk(c.Dir+"/disk.img", n.Data))(t)
	t.Cleanup(func() {
		c.Close()
		noError(t, disk.Unmount())
	})
	noError(t, c.Start(ctx(t, time.Minute)))
	w := startWorkload(t, c)
	w.progress()
	filler := n.Data + "/filler"
	f := must(os.Create(filler))(t)
	block := make([]byte, 1<<20)
	for {
		if _, err := f.Write(block); err != nil {
			break
		}
	}
	noError(t, f.Close())
	for range 4 {
		w.progress()
	}
	noError(t, os.Remove(filler))
	w.progress()
	w.finish()
	select {
	case <-n.Exited(): // Raft gives up where its log can't be written
		noError(t, n.Start())
	default:
	}
	noError(t, n.AwaitReady(ctx(t, time.Minute)))
	verify(t, c)
}
