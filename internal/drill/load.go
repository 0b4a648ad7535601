package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/google/uuid"

	"coffer/internal/testcluster"
)

type client = secretsmanager.Client

func secretName(i int) string { return fmt.Sprintf("drill/%d", i) }

// write is an acknowledged one. Values of a secret count up.
type write struct {
	secret, version, region string
	n                       int
	at                      time.Time
}

// load is a writer a secret, which writes where it is let, and readers in every region.
type load struct {
	regions *testcluster.Regions
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex // guards below
	staying  string     // region that is cut off with every third writer
	writes   []write
	counter  []int // the last value tried, by secret
	reads    map[string]int
	failed   map[string]int
	gap      map[string]time.Duration // longest between two reads that succeeded
	seen     map[string]int           // newest value read, by region and secret
	back     string
	readings int
}

const (
	writePause    = 15 * time.Millisecond
	readPause     = 10 * time.Millisecond
	clientTimeout = 2 * time.Second
)

func startLoad(ctx context.Context, r *testcluster.Regions) (*load, error) {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{regions: r, cancel: cancel, counter: make([]int, secretsWritten), seen: map[string]int{}}
	l.begin()
	for i := range secretsWritten {
		_, err := l.client(lost, 0).CreateSecret(ctx, &secretsmanager.CreateSecretInput{
			Name: aws.String(secretName(i)), SecretString: aws.String("0"),
			AddReplicaRegions: []types.ReplicaRegionType{{Region: aws.String(next)}, {Region: aws.String(third)}},
		})
		if err != nil {
			cancel()
			return nil, err
		}
	}
	for _, region := range r.Names {
		for i := range secretsWritten {
			if err := testcluster.Eventually(ctx, "the secrets", func() error {
				_, err := l.read(l.client(region, 0), secretName(i))
				return err
			}); err != nil {
				cancel()
				return nil, err
			}
		}
	}
	for i := range secretsWritten {
		l.running.Go(func() { l.writer(ctx, i) })
	}
	for _, region := range r.Names {
		for n := range r.Of(region).Nodes {
			l.running.Go(func() { l.reader(ctx, region, n) })
		}
	}
	return l, nil
}

func (l *load) stop() {
	l.cancel()
	l.running.Wait()
}

// client is a client of a node that tries each request once.
func (l *load) client(region string, n int) *client {
	nodes := l.regions.Of(region).Nodes
	return nodes[n%len(nodes)].Client(testcluster.Once, func(o *secretsmanager.Options) {
		o.HTTPClient = &http.Client{Timeout: clientTimeout, Transport: o.HTTPClient.(*http.Client).Transport}
	})
}

// stay cuts a region off, together with every third writer; an empty one ends that.
func (l *load) stay(region string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.staying = region
}

// begin forgets what was counted of reads.
func (l *load) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads, l.failed, l.gap = map[string]int{}, map[string]int{}, map[string]time.Duration{}
}

// writer writes one secret. Where it is refused it goes to the next region: its applications have a list of endpoints.
func (l *load) writer(ctx context.Context, i int) {
	at := 0
	clients := map[string]*client{}
	for _, region := range l.regions.Names {
		clients[region] = l.client(region, i)
	}
	for n := 1; ctx.Err() == nil; n++ {
		l.mu.Lock()
		l.counter[i] = n
		region := l.regions.Names[at%len(l.regions.Names)]
		switch {
		case l.staying == "":
		case i%3 == 0:
			region = l.staying
		case region == l.staying: // the others are cut off from it as its nodes are
			at++
			region = l.regions.Names[at%len(l.regions.Names)]
		}
		l.mu.Unlock()
		w := write{secret: secretName(i), version: uuid.NewString(), region: region, n: n}
		_, err := clients[region].PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{
			SecretId: &w.secret, ClientRequestToken: &w.version, SecretString: aws.String(strconv.Itoa(n)),
		})
		if err == nil {
			w.at = time.Now()
			l.mu.Lock()
			l.writes = append(l.writes, w)
			l.mu.Unlock()
		} else {
			at++
		}
		select {
		case <-time.After(writePause):
		case <-ctx.Done():
		}
	}
}

func (l *load) read(c *client, name string) (int, error) {
	got, err := c.GetSecretValue(context.Background(), &secretsmanager.GetSecretValueInput{SecretId: &name})
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(aws.ToString(got.SecretString))
}

// reader reads all secrets in turn at one node.
func (l *load) reader(ctx context.Context, region string, n int) {
	c := l.client(region, n)
	last := time.Now()
	for i := n; ctx.Err() == nil; i++ {
		name := secretName(i % secretsWritten)
		value, err := l.read(c, name)
		l.mu.Lock()
		l.reads[region]++
		l.readings++
		if err != nil {
			l.failed[region]++
		} else {
			key := fmt.Sprintf("%s/%s/%d", region, name, n)
			if value < l.seen[key] && region != lost { // what only the lost region had does go
				l.back = fmt.Sprintf("%s in %s from %d to %d", name, region, l.seen[key], value)
			}
			l.seen[key] = value
			now := time.Now()
			l.gap[region] = max(l.gap[region], now.Sub(last))
			last = now
		}
		l.mu.Unlock()
		select {
		case <-time.After(readPause):
		case <-ctx.Done():
		}
	}
}

// line is the state of the load.
func (l *load) line() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	recent := map[string]int{}
	for i := len(l.writes) - 1; i >= 0 && time.Since(l.writes[i].at) < time.Second; i-- {
		recent[l.writes[i].region]++
	}
	line := "          writes/s"
	for _, region := range l.regions.Names {
		line += fmt.Sprintf("  %s %4d", region, recent[region])
	}
	return line + fmt.Sprintf("   reads %d, failed in %s %d, %s %d",
		l.readings, next, l.failed[next], third, l.failed[third])
}

// awaitWrites waits until each secret, but those of writers that stay, has been written outside of the lost region
// after a time, and answers when the last one was for the first time.
func (l *load) awaitWrites(ctx context.Context, after time.Time) (time.Time, error) {
	return l.await(ctx, func(w write) bool { return w.region != lost && w.at.After(after) })
}

// awaitWritesIn waits until each secret has been written in a region after a time.
func (l *load) awaitWritesIn(ctx context.Context, region string, after time.Time) (time.Time, error) {
	return l.await(ctx, func(w write) bool { return w.region == region && w.at.After(after) })
}

func (l *load) await(ctx context.Context, counts func(write) bool) (last time.Time, err error) {
	err = testcluster.Eventually(ctx, "every secret to be written", func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		first := map[string]time.Time{}
		for _, w := range l.writes {
			if at, found := first[w.secret]; counts(w) && (!found || w.at.Before(at)) {
				first[w.secret] = w.at
			}
		}
		last = time.Time{}
		for i := range secretsWritten {
			if l.staying != "" && i%3 == 0 {
				continue
			}
			at, found := first[secretName(i)]
			if !found {
				return errors.New(secretName(i) + " was not")
			}
			if at.After(last) {
				last = at
			}
		}
		return nil
	})
	return last, err
}

// acknowledged are the writes of a region.
func (l *load) acknowledged(region string) []write {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.writes), func(w write) bool { return w.region != region })
}

// last is the last acknowledged value of each secret.
func (l *load) last() []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]int, secretsWritten)
	for _, w := range l.writes {
		for i := range out {
			if w.secret == secretName(i) {
				out[i] = w.n
			}
		}
	}
	return out
}

func (l *load) readsOf(regions ...string) (reads, failed int, gap time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range regions {
		reads, failed, gap = reads+l.reads[r], failed+l.failed[r], max(gap, l.gap[r])
	}
	return reads, failed, gap
}

func (l *load) wentBack() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.back
}

func (l *load) totals() (writes, reads int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.writes), l.readings
}

// versionsOf are the ids of all versions of a secret.
func versionsOf(ctx context.Context, c *client, name string) (map[string]bool, error) {
	found := map[string]bool{}
	pages := secretsmanager.NewListSecretVersionIdsPaginator(c, &secretsmanager.ListSecretVersionIdsInput{
		SecretId: &name, IncludeDeprecated: aws.Bool(true),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, v := range page.Versions {
			found[*v.VersionId] = true
		}
	}
	return found, nil
}
