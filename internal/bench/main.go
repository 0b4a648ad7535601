// Command bench measures Coffer against the floors that docs/benchmarks.md describes. Everything runs on
// this machine, over loopback, and stops by itself.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/google/uuid"

	"coffer/internal/testcluster"
)

const secretsRead = 1000

var benches = []struct {
	name string
	run  func(*bench) error
}{
	{"read", (*bench).read}, {"put", (*bench).put}, {"keys", (*bench).keys}, {"size", (*bench).size},
	{"failover", (*bench).failover}, {"replication", (*bench).replication},
}

type bench struct {
	ctx    context.Context
	dir    string
	binary string
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "floor" {
		fmt.Fprintln(os.Stderr, runReadFloor(os.Args[2]))
		os.Exit(1)
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(names []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "coffer-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary, err := testcluster.Build(ctx, dir)
	if err != nil {
		return err
	}
	fmt.Printf("%s, %d cores, %s\n", runtime.Version(), runtime.NumCPU(), time.Now().UTC().Format(time.DateOnly))
	for _, b := range benches {
		if len(names) > 0 && !slices.Contains(names, b.name) {
			continue
		}
		fmt.Printf("\n== %s\n", b.name)
		if err := b.run(&bench{ctx, dir, binary}); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
	}
	return nil
}

// region is a running cluster under load.
type region struct {
	*testcluster.Cluster
	signer *signer
}

func (b *bench) region(name string, nodes int) (*region, error) {
	c, err := testcluster.New(filepath.Join(b.dir, name), b.binary, nodes, "--log-level", "info")
	if err != nil {
		return nil, err
	}
	if err := c.Start(b.ctx); err != nil {
		c.Close()
		return nil, err
	}
	return &region{
		c, newSigner(c.Credentials.AccessKeyID, c.Credentials.SecretAccessKey, c.Region, "secretsmanager", time.Now()),
	}, nil
}

func (r *region) load(operation string, workers int, d time.Duration, body func(worker, i int) []byte) load {
	l := load{signer: r.signer, workers: workers, duration: d, operation: operation, body: body}
	for _, n := range r.Nodes {
		l.endpoints = append(l.endpoints, n.Endpoint)
		l.pids = append(l.pids, n.PID())
	}
	return l
}

// create makes secrets first to last-1 with a first version.
func (b *bench) create(r *region, first, last int) error {
	const workers = 64
	l := r.load("CreateSecret", workers, 0, func(w, i int) []byte {
		return fmt.Appendf(nil, `{"Name":%q,"ClientRequestToken":%q,"SecretString":%q}`,
			name(first+i*workers+w), uuid.NewString(), value(w, i))
	})
	l.count = last - first
	got, err := l.run(b.ctx)
	if err == nil && got.errors > 0 {
		err = fmt.Errorf("%d of %d creations failed", got.errors, got.requests)
	}
	return err
}

func getBody(n int) func(worker, i int) []byte {
	return func(worker, i int) []byte {
		return fmt.Appendf(nil, `{"SecretId":%q}`, name((worker*7919+i*31)%n))
	}
}

const (
	readers    = 64
	writers    = 64
	roundTime  = 5 * time.Second
	readRounds = 5
	putRounds  = 5
)

// put measures PutSecretValue on three nodes in three processes beside bare Raft, in turn.
func (b *bench) put() error {
	r, err := b.region("put", 3)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := b.create(r, 0, secretsRead); err != nil {
		return err
	}
	l := r.load("PutSecretValue", writers, roundTime, func(w, i int) []byte {
		return fmt.Appendf(nil, `{"SecretId":%q,"ClientRequestToken":%q,"SecretString":%q}`,
			name((w*7919+i*31)%secretsRead), uuid.NewString(), value(w, i))
	})
	var rates, cpu []float64
	for round := range putRounds {
		floor, err := raftFloor(b.ctx, filepath.Join(b.dir, fmt.Sprint("raft-", round)), writers, roundTime)
		if err != nil {
			return err
		}
		got, err := l.run(b.ctx)
		if err != nil {
			return err
		}
		rates, cpu = append(rates, got.rate/floor.rate), append(cpu, got.cpu/floor.cpu)
		fmt.Printf("bare Raft %7.0f/s %6.1f µs CPU   Coffer %v   rate × %.2f, CPU × %.2f\n",
			floor.rate, floor.cpu, got, got.rate/floor.rate, got.cpu/floor.cpu)
	}
	fmt.Printf("median: rate × %.2f of bare Raft's (at least 0.55, goal 0.7), CPU × %.2f (at most 2.2, goal 2.0)\n",
		median(rates), median(cpu))
	return nil
}
