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
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/pflag"

	"coffer/internal/testcluster"
)

const secretsRead = 1000

var benches = []struct {
	name  string
	run   func(*bench) error
	named bool // runs only where it is asked for by name
}{
	{"read", (*bench).read, false}, {"put", (*bench).put, false}, {"keys", (*bench).keys, false},
	{"tail", (*bench).tail, false}, {"failover", (*bench).failover, false},
	{"replication", (*bench).replication, false}, {"scale", (*bench).scale, true},
}

// atMost is how long one benchmark may take.
const atMost = 45 * time.Minute

type bench struct {
	ctx     context.Context
	dir     string
	binary  string
	secrets int // how many the benchmark stores, 0 for its own number
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "floor" {
		fmt.Fprintln(os.Stderr, runReadFloor(os.Args[2]))
		os.Exit(1)
	}
	secrets := pflag.Int("secrets", 0, "secrets that scale (1,000,000) and tail (100,000) store")
	pflag.Parse()
	if err := run(pflag.Args(), *secrets); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(names []string, secrets int) error {
	if err := known(names); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
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
		if len(names) > 0 && !slices.Contains(names, b.name) || len(names) == 0 && b.named {
			continue
		}
		if err := one(ctx, b.name, b.run, bench{dir: dir, binary: binary, secrets: secrets}); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
	}
	return nil
}

func known(names []string) error {
	var all []string
	for _, b := range benches {
		all = append(all, b.name)
	}
	for _, n := range names {
		if !slices.Contains(all, n) {
			return fmt.Errorf("there is no benchmark %q: name some of %s", n, strings.Join(all, ", "))
		}
	}
	return nil
}

// one runs a benchmark on a machine that has nothing else to do.
func one(ctx context.Context, name string, run func(*bench) error, b bench) error {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	b.ctx = ctx
	watch, err := quiet(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("\n== %s   (%v)\n", name, watch)
	if err := run(&b); err != nil {
		return err
	}
	return watch.end()
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
	return b.createNamed(r, last-first, func(i int) string { return name(first + i) })
}

// createNamed makes so many secrets, in that order, by as many clients as there are writers.
func (b *bench) createNamed(r *region, secrets int, name func(i int) string) error {
	l := r.load("CreateSecret", writers, 0, func(w, i int) []byte {
		return fmt.Appendf(nil, `{"Name":%q,"ClientRequestToken":%q,"SecretString":%q}`,
			name(i*writers+w), uuid.NewString(), value(w, i))
	})
	l.count = secrets
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
