// Command drill loses a region under load, fails over, brings it home and hands the primary role back, and checks that
// every promise was kept. scripts/drill runs it.
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"coffer/internal/testcluster"
)

// The regions: the first is the one that is lost.
const (
	lost  = "us-east-1"
	next  = "eu-west-1"
	third = "ap-south-1"
)

const (
	secretsWritten = 9
	nodesPerRegion = 3
	calm           = 4 * time.Second // under load, between events
	limit          = 10 * time.Minute
)

// drill is one run.
type drill struct {
	ctx     context.Context
	regions *testcluster.Regions
	screen  *screen
	load    *load
	broken  []string // promises that were
	rows    [][]string
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "drill:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	dir, err := os.MkdirTemp("", "coffer-drill-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d := &drill{ctx: ctx, screen: newScreen()}
	d.screen.title("Coffer drill: %d regions of %d nodes", 3, nodesPerRegion)
	d.screen.say("building")
	binary, err := testcluster.Build(ctx, dir)
	if err != nil {
		return err
	}
	d.regions, err = testcluster.NewRegions(filepath.Join(dir, "regions"), binary, []string{lost, next, third},
		nodesPerRegion, "--log-level", "info")
	if err != nil {
		return err
	}
	remove, err := d.regions.Isolate()
	if err != nil {
		return fmt.Errorf("network namespaces are needed, and root for them: %w", err)
	}
	defer remove()
	defer d.regions.Close()
	d.screen.say("starting %d nodes", 3*nodesPerRegion)
	if err := d.regions.Start(ctx); err != nil {
		return err
	}
	if d.load, err = startLoad(ctx, d.regions); err != nil {
		return err
	}
	d.screen.watch(d.load.line)
	for _, scenario := range []struct {
		name       string
		lose, back func() error
	}{
		{"all nodes killed", d.kill, d.start},
		{"cut off, alive", d.cut, d.heal},
	} {
		if err := d.scenario(scenario.name, scenario.lose, scenario.back); err != nil {
			d.load.stop()
			return fmt.Errorf("%s: %w", scenario.name, err)
		}
	}
	d.screen.say("stopping the load, and comparing what is where")
	d.load.stop()
	if err := d.verify(); err != nil {
		return err
	}
	d.screen.end()
	return d.summary()
}

func (d *drill) kill() error {
	var killed sync.WaitGroup
	for _, n := range d.regions.Of(lost).Nodes {
		killed.Go(n.Kill)
	}
	killed.Wait()
	return nil
}

func (d *drill) start() error {
	for _, n := range d.regions.Of(lost).Nodes {
		if err := n.Start(); err != nil {
			return err
		}
	}
	return d.regions.Of(lost).AwaitReady(d.ctx)
}

// cut leaves the region with clients of its own, which go on writing there.
func (d *drill) cut() error {
	d.load.stay(lost)
	return d.regions.Cut(lost)
}

func (d *drill) heal() error {
	d.load.stay("")
	return d.regions.Heal(lost)
}

// scenario loses a region, fails over, brings it back and hands the role back.
func (d *drill) scenario(name string, lose, back func() error) error {
	d.screen.title("%s: %s", lost, name)
	d.load.begin()
	d.pause(calm)
	d.screen.say("losing %s", lost)
	down := time.Now()
	if err := lose(); err != nil {
		return err
	}
	d.pause(calm / 2)
	report, err := d.operate(next, "region", "failover", "--lost", lost)
	if err != nil {
		return err
	}
	d.screen.say("%s", strings.TrimSpace(lineWith(report, "secrets promoted")))
	recovered, err := d.load.awaitWrites(d.ctx, down)
	if err != nil {
		return err
	}
	rto := recovered.Sub(down)
	d.screen.say("every secret is written again, in %s: %.1f s after the loss", next, rto.Seconds())
	d.pause(calm)
	d.screen.say("%s comes back", lost)
	if err := back(); err != nil {
		return err
	}
	if err := d.regions.AwaitConnected(d.ctx); err != nil {
		return err
	}
	d.screen.say("failback: %s gets replicas of what it had", lost)
	if out, err := d.operate(next, "region", "failback", "--to", lost); err != nil {
		return err
	} else if !strings.Contains(out, fmt.Sprintf("%d secrets", secretsWritten)) {
		d.fail("failback is about all %d secrets: %s", secretsWritten, strings.TrimSpace(out))
	}
	lostWrites, err := d.missing()
	if err != nil {
		return err
	}
	d.tell(lostWrites, down)
	restored, err := d.restorable(lostWrites)
	if err != nil {
		return err
	}
	d.pause(calm / 2)
	d.screen.say("switchover: %s is the primary's region again", lost)
	moving := time.Now()
	if _, err := d.operate(next, "region", "failback", "--to", lost, "--switch"); err != nil {
		return err
	}
	home, err := d.load.awaitWritesIn(d.ctx, lost, moving)
	if err != nil {
		return err
	}
	d.pause(calm)
	reads, refused, gap := d.load.readsOf(next, third)
	if refused > 0 {
		d.fail("reads in the surviving regions go on: %d of %d failed", refused, reads)
	}
	if back := d.load.wentBack(); back != "" {
		d.fail("no value goes back in a surviving region: %s", back)
	}
	d.rows = append(d.rows, []string{
		name, fmt.Sprint(len(lostWrites)), fmt.Sprintf("%d of %d", restored, len(lostWrites)),
		fmt.Sprintf("%.1f s", rto.Seconds()),
		fmt.Sprintf("%d of %d failed", refused, reads), fmt.Sprintf("%.0f ms", gap.Seconds()*1000),
		fmt.Sprintf("%.1f s", home.Sub(moving).Seconds()),
	})
	return nil
}

// tell lists writes that nobody else has: values that follow on one another as a range.
func (d *drill) tell(writes []write, down time.Time) {
	bySecret := map[string][]write{}
	for _, w := range writes {
		bySecret[w.secret] = append(bySecret[w.secret], w)
	}
	for _, name := range slices.Sorted(maps.Keys(bySecret)) {
		all := bySecret[name]
		var ranges []string
		for i := 0; i < len(all); {
			j := i
			for j+1 < len(all) && all[j+1].n == all[j].n+1 {
				j++
			}
			ranges = append(ranges, fmt.Sprintf("%d-%d", all[i].n, all[j].n))
			i = j + 1
		}
		d.screen.say("  only %s has %d writes to %s, acknowledged from %+.1f s to %+.1f s: %s", lost, len(all), name,
			all[0].at.Sub(down).Seconds(), all[len(all)-1].at.Sub(down).Seconds(), strings.Join(ranges, ", "))
	}
}

func (d *drill) fail(promise string, args ...any) {
	d.broken = append(d.broken, fmt.Sprintf(promise, args...))
	d.screen.say("BROKEN: "+promise, args...)
}

func (d *drill) pause(t time.Duration) {
	select {
	case <-time.After(t):
	case <-d.ctx.Done():
	}
}

func (d *drill) operate(region string, args ...string) (string, error) {
	d.screen.say("$ coffer %s    (in %s)", strings.Join(args, " "), region)
	out, err := d.regions.Of(region).Nodes[0].Operate(d.ctx, args...)
	if err != nil {
		return out, fmt.Errorf("coffer %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return out, nil
}

func lineWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return line
		}
	}
	return ""
}

// missing are the writes that the lost region acknowledged and that the new primaries do not have.
func (d *drill) missing() ([]write, error) {
	var out []write
	versions := map[string]map[string]bool{}
	for i := range secretsWritten {
		var err error
		if versions[secretName(i)], err = versionsOf(d.ctx, d.load.client(next, 0), secretName(i)); err != nil {
			return nil, err
		}
	}
	for _, w := range d.load.acknowledged(lost) { // and no more, since its clients are refused now
		if !versions[w.secret][w.version] {
			out = append(out, w)
		}
	}
	return out, nil
}

// restorable restores what was displaced in the region that has come home, and counts the lost writes that are in it.
func (d *drill) restorable(writes []write) (int, error) {
	list, err := d.operate(lost, "displaced", "list")
	if err != nil {
		return 0, err
	}
	found := map[string]bool{}
	for line := range strings.Lines(list) {
		fields := strings.Fields(line)
		if len(fields) < 2 || !strings.HasPrefix(fields[1], "drill/") {
			continue
		}
		copied := fmt.Sprintf("restored/%s", fields[0])
		if _, err := d.regions.Of(lost).Nodes[0].Operate(d.ctx, "displaced", "restore", fields[0], "--name",
			copied); err != nil && !strings.Contains(err.Error(), "exit") {
			return 0, err
		}
		versions, err := versionsOf(d.ctx, d.load.client(lost, 0), copied)
		if err != nil {
			return 0, err
		}
		for v := range versions {
			found[v] = true
		}
	}
	// Of a displaced secret the copy has the versions with labels: the last write to each must be among them.
	newest := map[string]write{}
	for _, w := range writes {
		if w.n > newest[w.secret].n {
			newest[w.secret] = w
		}
	}
	n := 0
	for _, w := range writes {
		if found[w.version] || found[newest[w.secret].version] {
			n++
		}
	}
	if n < len(writes) {
		d.fail("what the lost region had alone is restorable: %d of %d writes are", n, len(writes))
	}
	return n, nil
}

// verify holds all regions against the last acknowledged writes.
func (d *drill) verify() error {
	for i, last := range d.load.last() {
		for _, region := range d.regions.Names {
			err := testcluster.Eventually(d.ctx, "the last write", func() error {
				got, err := d.load.read(d.load.client(region, 0), secretName(i))
				if err == nil && got < last {
					err = fmt.Errorf("%s in %s has the value %d, and %d was acknowledged", secretName(i), region, got, last)
				}
				return err
			})
			if err != nil {
				d.fail("no acknowledged write is lost in the end: %v", err)
			}
		}
	}
	for _, c := range d.regions.Clusters {
		leader, err := c.Leader(d.ctx)
		if err != nil {
			return err
		}
		for _, other := range d.regions.Names {
			if n, err := leader.Metric(fmt.Sprintf("coffer_replication_repairs_total{region=%q}", other)); err == nil &&
				n != "0" {
				d.fail("the stream misses nothing: %s repairs %s in %s", c.Region, n, other)
			}
		}
	}
	return nil
}

func (d *drill) summary() error {
	d.screen.table([]string{
		"REGION LOST", "RPO (writes)", "RESTORABLE", "RTO", "READS ELSEWHERE", "LONGEST GAP", "HANDED BACK",
	}, d.rows)
	writes, reads := d.load.totals()
	fmt.Printf("\n%d writes were acknowledged, %d reads answered.\n", writes, reads)
	if len(d.broken) > 0 {
		for _, promise := range d.broken {
			fmt.Println("BROKEN:", promise)
		}
		return errors.New("a promise was broken")
	}
	fmt.Println("Every promise was kept: reads went on elsewhere, no value went back, what only the lost region had is " +
		"restorable,\nand every write that was acknowledged since is in every region.")
	return nil
}
