// Command chaos injects faults into three regions of three nodes under load, and checks what clients saw: each region's
// history with porcupine, and each replica's against its primary's. scripts/chaos runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"coffer/internal/history"
	"coffer/internal/testcluster"
)

var names = []string{"us-east-1", "eu-west-1", "ap-south-1"}

const (
	nodesPerRegion = 3
	faultTime      = 700 * time.Millisecond // on average
	healTime       = 300 * time.Millisecond
	converge       = 30 * time.Second // after healing
)

func main() {
	faults := flag.Int("faults", 100, "faults to inject, about one a second")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the choice of faults")
	flag.Parse()
	if err := run(*faults, *seed); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

// chaos is one run.
type chaos struct {
	ctx     context.Context
	regions *testcluster.Regions
	random  *rand.Rand
	counts  map[string]int
}

func run(faults int, seed uint64) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute+time.Duration(faults)*5*time.Second)
	defer cancel()
	dir, err := os.MkdirTemp("", "coffer-chaos-")
	if err != nil {
		return err
	}
	binary, err := testcluster.Build(ctx, dir)
	if err != nil {
		return err
	}
	c := &chaos{ctx: ctx, random: rand.New(rand.NewPCG(seed, 0)), counts: map[string]int{}}
	c.regions, err = testcluster.NewRegions(filepath.Join(dir, "regions"), binary, names, nodesPerRegion, "--log-level",
		"info")
	if err != nil {
		return err
	}
	remove, err := c.regions.Isolate()
	if err != nil {
		return fmt.Errorf("network namespaces are needed, and root for them: %w", err)
	}
	defer remove()
	defer c.regions.Close()
	if err := c.regions.Start(ctx); err != nil {
		return err
	}
	fmt.Printf("%d regions of %d nodes, %d faults, seed %d\n", len(names), nodesPerRegion, faults, seed)
	l, err := startLoad(ctx, c.regions)
	if err != nil {
		return err
	}
	start := time.Now()
	for i := range faults {
		what, err := c.fault()
		if err != nil {
			l.stop()
			return fmt.Errorf("fault %d, %s: %w", i+1, what, err)
		}
		c.counts[what]++
		if wrong := l.wrong(); wrong != "" {
			l.stop()
			return fmt.Errorf("after fault %d, %s: %s; the nodes' logs are in %s", i+1, what, wrong, dir)
		}
	}
	fmt.Printf("%d faults in %.0f s: %v\n", faults, time.Since(start).Seconds(), c.counts)
	for _, cluster := range c.regions.Clusters {
		if err := cluster.AwaitReady(ctx); err != nil {
			return err
		}
	}
	healed := time.Now()
	l.stop()
	within, cancelConverge := context.WithTimeout(ctx, converge)
	defer cancelConverge()
	if err := l.converged(within); err != nil {
		return fmt.Errorf("%w; the nodes' logs are in %s", err, dir)
	}
	fmt.Printf("every replica is as its primary %.1f s after the last fault\n", time.Since(healed).Seconds())
	if wrong := l.wrong(); wrong != "" {
		return fmt.Errorf("%s; the nodes' logs are in %s", wrong, dir)
	}
	operations := 0
	for _, region := range names {
		ops := l.recorders[region].Operations()
		if err := history.Check(ops, time.Minute); err != nil {
			_ = os.WriteFile(filepath.Join(dir, "history.txt"), history.Text(ops), 0o600)
			return fmt.Errorf("%s: %w; the nodes' logs are in %s", region, err, dir)
		}
		operations += len(ops)
	}
	fmt.Printf("%d operations on primaries are linearizable; %d writes to replicated secrets, and %d views of "+
		"replicas: in order, unique, whole\n", operations, l.written.Load(), l.viewed.Load())
	for _, n := range c.regions.All() {
		for _, other := range names {
			if repairs, err := n.Metric(fmt.Sprintf("coffer_replication_repairs_total{region=%q}", other)); err == nil &&
				repairs != "0" {
				return fmt.Errorf("%s repaired %s replicas in %s: the stream missed something", n.Log, repairs, other)
			}
		}
	}
	return os.RemoveAll(dir)
}

// fault injects one fault, and heals it.
func (c *chaos) fault() (string, error) {
	region := c.regions.Clusters[c.random.IntN(len(names))]
	node := region.Nodes[c.random.IntN(nodesPerRegion)]
	during := func() error {
		select {
		case <-time.After(faultTime/2 + time.Duration(c.random.Int64N(int64(faultTime)))):
			return nil
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
	}
	var what string
	var inject, heal func() error
	kill := func(nodes ...*testcluster.Node) (func() error, func() error) {
		return func() error {
				for _, n := range nodes {
					n.Signal(syscall.SIGKILL)
				}
				for _, n := range nodes {
					n.Wait()
				}
				return nil
			}, func() error {
				for _, n := range nodes {
					if err := n.Start(); err != nil {
						return err
					}
				}
				return nil
			}
	}
	leader := func() *testcluster.Node {
		ctx, cancel := context.WithTimeout(c.ctx, 10*time.Second)
		defer cancel()
		if n, err := region.Leader(ctx); err == nil {
			return n
		}
		return node
	}
	switch c.random.IntN(9) {
	case 0:
		what = "node killed"
		inject, heal = kill(node)
	case 1:
		what = "leader killed"
		inject, heal = kill(leader())
	case 2:
		what = "leaders of two regions killed"
		first := leader()
		region = c.regions.Clusters[c.random.IntN(len(names))]
		if second := leader(); second != first {
			inject, heal = kill(first, second)
		} else {
			inject, heal = kill(first)
		}
	case 3:
		what = "region killed"
		inject, heal = kill(region.Nodes...)
	case 4:
		what = "node paused"
		inject = func() error { node.Signal(syscall.SIGSTOP); return nil }
		heal = func() error { node.Signal(syscall.SIGCONT); return nil }
	case 5:
		what = "leader paused"
		n := leader()
		inject = func() error { n.Signal(syscall.SIGSTOP); return nil }
		heal = func() error { n.Signal(syscall.SIGCONT); return nil }
	case 6:
		what = "node cut off"
		inject, heal = node.Cut, node.Heal
	case 7:
		what = "region cut off"
		inject = func() error { return c.regions.Cut(region.Region) }
		heal = func() error { return c.regions.Heal(region.Region) }
	case 8:
		what = "region cut off one way"
		inject = func() error { return c.regions.CutIncoming(region.Region) }
		heal = func() error { return c.regions.Heal(region.Region) }
	}
	if err := inject(); err != nil {
		return what, err
	}
	err := errors.Join(during(), heal())
	select {
	case <-time.After(healTime):
	case <-c.ctx.Done():
	}
	return what, err
}
