package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"coffer/internal/testcluster"
)

// The regions: secrets are written in the first and replicated to the second.
const (
	home = testcluster.Region
	away = "eu-west-1"
)

const (
	lagRate        = 100 // changes a second
	lagTime        = 20 * time.Second
	lagSecrets     = 200
	replicatedOnce = 50_000
	cutSecrets     = 1_000
	cutChanges     = 30_000 // 50 a second for ten minutes
	cutTime        = 15 * time.Second
)

// pair is two regions, each of so many nodes.
type pair struct {
	*testcluster.Regions
	home, away *region
}

func (b *bench) pair(dir string, nodes int, proxied bool) (*pair, error) {
	r, err := testcluster.NewRegions(filepath.Join(b.dir, dir), b.binary, []string{home, away}, nodes, "--log-level",
		"info")
	if err != nil {
		return nil, err
	}
	if proxied {
		if err := r.UseProxies(); err != nil {
			return nil, err
		}
	}
	if err := r.Start(b.ctx); err != nil {
		r.Close()
		return nil, err
	}
	of := func(c *testcluster.Cluster) *region {
		return &region{
			c, newSigner(c.Credentials.AccessKeyID, c.Credentials.SecretAccessKey, c.Region, "secretsmanager", time.Now()),
		}
	}
	return &pair{r, of(r.Clusters[0]), of(r.Clusters[1])}, nil
}

// createReplicated makes secrets first to last-1 with replicas in the other region.
func (b *bench) createReplicated(r *region, first, last int) error {
	l := r.load("CreateSecret", writers, 0, func(w, i int) []byte {
		return fmt.Appendf(nil, `{"Name":%q,"ClientRequestToken":%q,"SecretString":%q,"AddReplicaRegions":[{"Region":%q}]}`,
			name(first+i*writers+w), uuid.NewString(), value(w, i), away)
	})
	l.count = last - first
	got, err := l.run(b.ctx)
	if err == nil && got.errors > 0 {
		err = fmt.Errorf("%d of %d creations failed", got.errors, got.requests)
	}
	return err
}

// lagging is how many secrets the other region has not acknowledged.
func (p *pair) lagging(ctx context.Context) (int, error) {
	leader, err := p.home.Leader(ctx)
	if err != nil {
		return 0, err
	}
	n, err := leader.Metric(fmt.Sprintf("coffer_replication_lagging{region=%q}", away))
	if err != nil {
		return 0, err
	}
	f, err := strconv.ParseFloat(n, 64)
	return int(f), err
}

// awaitSync waits until nothing lags, and answers how long that took.
func (p *pair) awaitSync(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	err := testcluster.Eventually(ctx, "the regions to be in sync", func() error {
		n, err := p.lagging(ctx)
		if err == nil && n > 0 {
			err = fmt.Errorf("%d secrets lag", n)
		}
		return err
	})
	return time.Since(start), err
}

// replication measures lag, first replication, catching up, and what it costs the primary.
func (b *bench) replication() error {
	for _, step := range []func() error{b.lag, b.firstReplication, b.catchUp, b.overhead} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// lag measures the time from a write's answer until the other region, of three nodes as this one, reads it.
func (b *bench) lag() error {
	p, err := b.pair("lag", 3, false)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := b.createReplicated(p.home, 0, lagSecrets); err != nil {
		return err
	}
	if _, err := p.awaitSync(b.ctx); err != nil {
		return err
	}
	var mu sync.Mutex
	var lags []float64
	var pending sync.WaitGroup
	failed := error(nil)
	clients := []*secretsmanager.Client{}
	for i := range p.home.Nodes {
		clients = append(clients, p.home.Nodes[i].Client(), p.away.Nodes[i].Client())
	}
	tick := time.NewTicker(time.Second / lagRate)
	defer tick.Stop()
	start := time.Now()
	for i := 0; time.Since(start) < lagTime; i++ {
		<-tick.C
		pending.Go(func() {
			id, token := name(i%lagSecrets), uuid.NewString()
			at := i % len(p.home.Nodes)
			_, err := clients[2*at].PutSecretValue(b.ctx, &secretsmanager.PutSecretValueInput{
				SecretId: &id, ClientRequestToken: &token, SecretString: aws.String(value(0, i)),
			})
			answered := time.Now()
			for err == nil {
				var got *secretsmanager.GetSecretValueOutput
				got, err = clients[2*at+1].GetSecretValue(b.ctx, &secretsmanager.GetSecretValueInput{SecretId: &id})
				if err == nil && *got.VersionId == token {
					break
				}
				time.Sleep(500 * time.Microsecond)
			}
			mu.Lock()
			defer mu.Unlock()
			lags = append(lags, ms(time.Since(answered)))
			if err != nil {
				failed = err
			}
		})
	}
	pending.Wait()
	slices.Sort(lags)
	fmt.Printf("lag at %d changes/s, 3 nodes a region: p50 %.1f ms (below 20), p99 %.1f ms (below 100), longest %.1f "+
		"ms of %d\n", lagRate, lags[len(lags)/2], lags[len(lags)*99/100], lags[len(lags)-1], len(lags))
	return failed
}

// firstReplication makes 50,000 links while the other region is down, and measures from its return on.
func (b *bench) firstReplication() error {
	for _, nodes := range []int{1, 3} {
		if err := b.replicateOnce(nodes); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) replicateOnce(nodes int) error {
	p, err := b.pair(fmt.Sprint("first-", nodes), nodes, false)
	if err != nil {
		return err
	}
	defer p.Close()
	for _, n := range p.away.Nodes {
		n.Stop()
	}
	leader, err := p.home.Leader(b.ctx)
	if err != nil {
		return err
	}
	if err := b.createReplicated(p.home, 0, replicatedOnce); err != nil {
		return err
	}
	before, err := anonymous(leader.PID())
	if err != nil {
		return err
	}
	for _, n := range p.away.Nodes {
		if err := n.Start(); err != nil {
			return err
		}
	}
	if err := p.away.AwaitReady(b.ctx); err != nil {
		return err
	}
	took, err := p.awaitSync(b.ctx)
	if err != nil {
		return err
	}
	after, err := anonymous(leader.PID())
	if err != nil {
		return err
	}
	fmt.Printf("%d secrets of 1 KiB for the first time, %d node(s) a region: %.1f s (below 60); anonymous memory of "+
		"the sending leader %.0f MiB with all of them waiting, %.0f MiB when they were sent\n",
		replicatedOnce, nodes, took.Seconds(), before, after)
	return nil
}

// catchUp makes as many changes as come in ten minutes at 50 a second while the regions are cut apart.
func (b *bench) catchUp() error {
	p, err := b.pair("cut", 1, true)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := b.createReplicated(p.home, 0, cutSecrets); err != nil {
		return err
	}
	if _, err := p.awaitSync(b.ctx); err != nil {
		return err
	}
	if err := b.create(p.home, cutSecrets, 2*cutSecrets); err != nil {
		return err
	}
	// change makes the changes, to secrets from first on, and answers the memory that the leader has then.
	change := func(first int) (float64, error) {
		l := p.home.load("PutSecretValue", writers, 0, func(w, i int) []byte {
			return fmt.Appendf(nil, `{"SecretId":%q,"ClientRequestToken":%q,"SecretString":%q}`,
				name(first+(i*writers+w)%cutSecrets), uuid.NewString(), value(w, i))
		})
		l.count = cutChanges
		if got, err := l.run(b.ctx); err != nil || got.errors > 0 {
			return 0, fmt.Errorf("%d errors, %w", got.errors, err)
		}
		return anonymous(p.home.Nodes[0].PID())
	}
	without, err := change(cutSecrets)
	if err != nil {
		return err
	}
	for _, n := range p.All() {
		n.Proxy().Set(testcluster.Faults{BlockIn: true, BlockOut: true})
	}
	cut := time.Now()
	waiting, err := change(0)
	if err != nil {
		return err
	}
	time.Sleep(max(0, cutTime-time.Since(cut))) // until the other region counts as unreachable
	for _, n := range p.All() {
		n.Proxy().Set(testcluster.Faults{})
	}
	took, err := p.awaitSync(b.ctx)
	if err != nil {
		return err
	}
	fmt.Printf("%d changes of %d secrets during a cut: caught up %.1f s after healing (below 10); anonymous memory "+
		"%.0f MiB after as many changes of secrets without replicas, %.0f MiB with the backlog\n",
		cutChanges, cutSecrets, took.Seconds(), without, waiting)
	return nil
}

// overhead measures PutSecretValue on secrets with a replica beside secrets without one, in turn. The other region is
// on the same cores and disk, so a third contender has secrets without replicas while the other region takes as many
// writes of its own: what is left to the first is what replication costs the primary.
func (b *bench) overhead() error {
	p, err := b.pair("overhead", 1, false)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := b.createReplicated(p.home, 0, secretsRead); err != nil {
		return err
	}
	for _, r := range []*region{p.home, p.away} {
		if err := b.create(r, secretsRead, 2*secretsRead); err != nil {
			return err
		}
	}
	puts := func(r *region, first int) load {
		l := r.load("PutSecretValue", overheadWriters, roundTime, func(w, i int) []byte {
			return fmt.Appendf(nil, `{"SecretId":%q,"ClientRequestToken":%q,"SecretString":%q}`,
				name(first+(w*7919+i*31)%secretsRead), uuid.NewString(), value(w, i))
		})
		l.pause = overheadPause
		return l
	}
	p50 := map[string][]float64{}
	for round := range putRounds + 1 {
		for _, contender := range []string{"standalone", "replicated", "standalone, other region as busy"} {
			if _, err := p.awaitSync(b.ctx); err != nil {
				return err
			}
			first := secretsRead
			if contender == "replicated" {
				first = 0
			}
			var beside errgroup.Group
			if contender == "standalone, other region as busy" {
				beside.Go(func() error { _, err := puts(p.away, secretsRead).run(b.ctx); return err })
			}
			got, err := puts(p.home, first).run(b.ctx)
			if err := errors.Join(err, beside.Wait()); err != nil {
				return err
			}
			if round == 0 {
				continue // warming up
			}
			fmt.Printf("%-33s %v\n", contender, got)
			p50[contender] = append(p50[contender], ms(got.p50))
		}
	}
	alone, with, busy := median(p50["standalone"]), median(p50["replicated"]),
		median(p50["standalone, other region as busy"])
	fmt.Printf("PutSecretValue at about 350 a second, 1 node a region: replicated %.2f ms, standalone %.2f ms; %.2f ms "+
		"with the other region as busy: overhead %+.0f%% to that (below 10%%), %+.0f%% to a machine that has the other "+
		"region idle\n",
		with, alone, busy, 100*(with/busy-1), 100*(with/alone-1))
	return nil
}

const (
	overheadWriters = 8
	overheadPause   = 20 * time.Millisecond
)
