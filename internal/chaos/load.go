package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/google/uuid"

	"coffer/internal/history"
	"coffer/internal/testcluster"
)

type client = secretsmanager.Client

// Of each region, and replicated to the others: secrets that several clients write and read at once, whose history is
// recorded, and secrets with one writer, whose versions count up, so that a view of a replica can be judged by itself.
const (
	contended     = 2
	counted       = 4
	clients       = 3 // of the contended secrets, one a node
	clientTimeout = 5 * time.Second
	rest          = 4 * time.Millisecond
)

func contendedName(region string, i int) string { return fmt.Sprintf("contended/%s/%d", region, i) }
func countedName(region string, i int) string   { return fmt.Sprintf("counted/%s/%d", region, i) }

type load struct {
	regions   *testcluster.Regions
	recorders map[string]*history.Recorder
	cancel    context.CancelFunc
	running   sync.WaitGroup
	written   atomic.Int64
	viewed    atomic.Int64
	first     atomic.Pointer[string] // what was wrong
	last      sync.Map               // counted name -> last acknowledged number
}

// version is the id of a counted secret's version n.
func version(n int) string { return fmt.Sprintf("counted-%032d", n) }

func number(version string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(version, "counted-"))
	if err != nil {
		return -1
	}
	return n
}

func startLoad(ctx context.Context, r *testcluster.Regions) (*load, error) {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{regions: r, recorders: map[string]*history.Recorder{}, cancel: cancel}
	for _, c := range r.Clusters {
		var others []types.ReplicaRegionType
		for _, o := range r.Names {
			if o != c.Region {
				others = append(others, types.ReplicaRegionType{Region: aws.String(o)})
			}
		}
		var all []string
		for i := range contended {
			all = append(all, contendedName(c.Region, i))
		}
		for i := range counted {
			all = append(all, countedName(c.Region, i))
		}
		for _, name := range all {
			if _, err := c.Balanced().CreateSecret(ctx, &secretsmanager.CreateSecretInput{
				Name: &name, AddReplicaRegions: others,
			}); err != nil {
				cancel()
				return nil, err
			}
		}
	}
	for _, c := range r.Clusters {
		l.recorders[c.Region] = history.NewRecorder()
		for n := range clients {
			l.running.Go(func() { l.contend(ctx, c, n) })
		}
		for i := range counted {
			l.running.Go(func() { l.count(ctx, c, countedName(c.Region, i)) })
		}
		for n := range c.Nodes {
			l.running.Go(func() { l.view(ctx, c, n) })
		}
	}
	return l, nil
}

func (l *load) stop() {
	l.cancel()
	l.running.Wait()
}

func (l *load) fail(format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	l.first.CompareAndSwap(nil, &what)
}

func (l *load) wrong() string {
	if what := l.first.Load(); what != nil {
		return *what
	}
	return ""
}

// once is a client of a node that tries each request once, and notices stale answers.
func once(n *testcluster.Node) (*client, *testcluster.StaleMark) {
	mark := &testcluster.StaleMark{Next: http.DefaultTransport.(*http.Transport).Clone()}
	return n.Client(testcluster.Once, func(o *secretsmanager.Options) {
		o.HTTPClient = &http.Client{Transport: mark, Timeout: clientTimeout}
	}), mark
}

func pause(ctx context.Context) {
	select {
	case <-time.After(rest):
	case <-ctx.Done():
	}
}

// contend puts and reads the contended secrets of a region at one of its nodes.
func (l *load) contend(ctx context.Context, c *testcluster.Cluster, node int) {
	cl, mark := once(c.Nodes[node])
	r := l.recorders[c.Region]
	id := r.Client()
	for ctx.Err() == nil {
		name := contendedName(c.Region, rand.IntN(contended))
		if rand.IntN(3) == 0 {
			in := history.Input{Secret: name, Kind: history.Put, Version: uuid.NewString()}
			id = r.Do(id, in, func() history.Output {
				_, err := cl.PutSecretValue(context.Background(), &secretsmanager.PutSecretValueInput{
					SecretId: &name, ClientRequestToken: &in.Version, SecretString: &in.Version,
				})
				return history.OutputOf(err)
			})
		} else {
			in := history.Input{Secret: name, Kind: history.Get, Label: []string{"AWSCURRENT", "AWSPREVIOUS"}[rand.IntN(2)]}
			id = r.Do(id, in, func() history.Output {
				got, err := cl.GetSecretValue(context.Background(), &secretsmanager.GetSecretValueInput{
					SecretId: &name, VersionStage: &in.Label,
				})
				var none *types.ResourceNotFoundException
				switch {
				case errors.As(err, &none) && !mark.Stale:
					return history.Output{}
				case err != nil || mark.Stale:
					return history.Output{Unknown: true}
				case *got.SecretString != *got.VersionId:
					l.fail("version %s of %s has the value of another", *got.VersionId, name)
				}
				return history.Output{Version: *got.VersionId}
			})
		}
		pause(ctx)
	}
}

// count writes version after version of a secret. It tries each again until it is acknowledged.
func (l *load) count(ctx context.Context, c *testcluster.Cluster, name string) {
	for n := 1; ctx.Err() == nil; n++ {
		id := version(n)
		for i := n; ; i++ {
			cl, _ := once(c.Nodes[i%len(c.Nodes)])
			_, err := cl.PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{
				SecretId: &name, ClientRequestToken: &id, SecretString: aws.String(strconv.Itoa(n)),
			})
			if err == nil {
				l.last.Store(name, n)
				l.written.Add(1)
				break
			}
			if ctx.Err() != nil {
				return
			}
			pause(ctx)
		}
		pause(ctx)
	}
}

// view reads the replicas of a region at one of its nodes, and holds each view against the rules: it never goes back,
// its labels belong together, and each version has its own value.
func (l *load) view(ctx context.Context, c *testcluster.Cluster, node int) {
	cl, mark := once(c.Nodes[node])
	seen := map[string]int{}
	for ctx.Err() == nil {
		primary := l.regions.Names[rand.IntN(len(l.regions.Names))]
		if primary == c.Region {
			continue
		}
		name := countedName(primary, rand.IntN(counted))
		d, err := cl.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: &name})
		if err == nil && !mark.Stale {
			l.judge(c.Region, name, seen, d.VersionIdsToStages)
		}
		got, err := cl.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &name})
		if err == nil && !mark.Stale {
			n := number(*got.VersionId)
			if *got.SecretString != strconv.Itoa(n) {
				l.fail("version %d of %s has another value in %s", n, name, c.Region)
			}
			if n < seen[name] {
				l.fail("%s went back from %d to %d in %s", name, seen[name], n, c.Region)
			}
			seen[name] = n
		}
		pause(ctx)
	}
}

func (l *load) judge(region, name string, seen map[string]int, stages map[string][]string) {
	current, previous := 0, 0
	for id, labels := range stages {
		for _, label := range labels {
			switch label {
			case "AWSCURRENT":
				current = number(id)
			case "AWSPREVIOUS":
				previous = number(id)
			}
		}
	}
	switch {
	case current > 0 && previous != current-1:
		l.fail("%s in %s is a mixture: AWSCURRENT is %d, AWSPREVIOUS is %d", name, region, current, previous)
	case current < seen[name]:
		l.fail("%s went back from %d to %d in %s", name, seen[name], current, region)
	}
	seen[name] = current
	l.viewed.Add(1)
}

// converged waits until every replica has the last acknowledged version.
func (l *load) converged(ctx context.Context) error {
	for _, primary := range l.regions.Names {
		for i := range counted {
			name := countedName(primary, i)
			last, _ := l.last.Load(name)
			for _, c := range l.regions.Clusters {
				err := testcluster.Eventually(ctx, fmt.Sprintf("%s in %s", name, c.Region), func() error {
					got, err := c.Balanced().GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &name})
					if err == nil && number(*got.VersionId) < last.(int) {
						err = fmt.Errorf("it has version %d of %d", number(*got.VersionId), last)
					}
					return err
				})
				if err != nil {
					return err
				}
			}
		}
	}
	return nil
}
