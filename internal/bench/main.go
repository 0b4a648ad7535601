// Command bench measures Coffer against the floors that docs/benchmarks.md describes. Everything runs on
// this machine, over loopback, and stops by itself.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
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

func (b *bench) startFloor() (endpoint string, pid int, stop func(), err error) {
	cmd := exec.Command(os.Args[0], "floor", b.dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", 0, nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", 0, nil, err
	}
	stop = func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return "", 0, nil, err
	}
	return strings.TrimSpace(line), cmd.Process.Pid, stop, nil
}

// contender is a load that runs in turn with others.
type contender struct {
	name string
	load load
}

// rounds runs the contenders in turn, and answers each one's CPU a request by round.
func (b *bench) rounds(contenders []contender) ([][]float64, error) {
	cpu := make([][]float64, len(contenders))
	for round := range readRounds + 1 {
		for i, c := range contenders {
			got, err := c.load.run(b.ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			if round == 0 {
				continue // warming up
			}
			fmt.Printf("%-21s %v\n", c.name, got)
			cpu[i] = append(cpu[i], got.cpu)
		}
	}
	return cpu, nil
}

// read measures GetSecretValue on one node and on three beside the floor, in turn.
func (b *bench) read() error {
	endpoint, pid, stop, err := b.startFloor()
	if err != nil {
		return err
	}
	defer stop()
	one, err := b.region("read-1", 1)
	if err != nil {
		return err
	}
	defer one.Close()
	three, err := b.region("read-3", 3)
	if err != nil {
		return err
	}
	defer three.Close()
	for _, r := range []*region{one, three} {
		if err := b.create(r, 0, secretsRead); err != nil {
			return err
		}
	}
	floor := load{
		endpoints: []string{endpoint}, pids: []int{pid}, signer: one.signer, workers: readers, duration: roundTime,
		operation: "GetSecretValue", body: getBody(secretsRead),
	}
	contenders := []contender{
		{"floor", floor},
		{"1 node", one.load("GetSecretValue", readers, roundTime, getBody(secretsRead))},
		{"3 nodes", three.load("GetSecretValue", readers, roundTime, getBody(secretsRead))},
	}
	cpu, err := b.rounds(contenders)
	if err != nil {
		return err
	}
	var toFloor, toOne []float64
	for i, floor := range cpu[0] { // each round against its own floor: the machine's speed drifts
		toFloor = append(toFloor, cpu[1][i]/floor)
		toOne = append(toOne, cpu[2][i]/cpu[1][i])
	}
	fmt.Printf("median CPU a read: 1 node %.2f × floor (at most 2.25, goal 1.45), 3 nodes %.2f × 1 node (at most 1.5)\n",
		median(toFloor), median(toOne))
	return nil
}

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
	var ratios []float64
	for round := range putRounds {
		floor, err := raftFloor(b.ctx, filepath.Join(b.dir, fmt.Sprint("raft-", round)), writers, roundTime)
		if err != nil {
			return err
		}
		got, err := l.run(b.ctx)
		if err != nil {
			return err
		}
		ratios = append(ratios, got.rate/floor)
		fmt.Printf("bare Raft %7.0f/s   Coffer %v   = %.2f\n", floor, got, got.rate/floor)
	}
	fmt.Printf("median: %.2f of bare Raft (at least 0.4, goal 0.7)\n", median(ratios))
	return nil
}
