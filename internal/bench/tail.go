package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
)

const (
	tailSecrets = 100_000
	tailReads   = 2_000 // a second
	tailWrites  = 300   // a second
	tailTime    = 10 * time.Second
	tailRounds  = 3
)

// tail measures the slowest reads of a node while a snapshot streams from it, again and again, and writes go on. The
// client that saves has the lowest priority (nice 19): it would be on another machine, and what it does with the
// stream must not take the node's cores. What it costs the node to make the stream counts.
func (b *bench) tail() error {
	secrets := b.secrets
	if secrets == 0 {
		secrets = tailSecrets
	}
	r, err := b.region("tail", 1)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := b.create(r, 0, secrets); err != nil {
		return err
	}
	fmt.Printf("%d secrets of 1 KiB, one node, %d reads a second\n", secrets, tailReads)
	kinds := []struct {
		name           string
		writes, stream bool
	}{
		{"alone", false, false}, {fmt.Sprintf("beside %d puts a second", tailWrites), true, false},
		{"beside the puts and a snapshot", true, true},
	}
	p99 := make([][]float64, len(kinds))
	for range tailRounds {
		for i, k := range kinds {
			got, saved, err := b.readBeside(r, secrets, k.writes, k.stream)
			if err != nil {
				return err
			}
			fmt.Printf("%-31s %v", k.name, got)
			if k.stream {
				fmt.Printf("   %d snapshots", saved)
			}
			fmt.Println()
			p99[i] = append(p99[i], ms(got.p99))
		}
	}
	fmt.Printf("p99 of reads, median of %d: %.2f ms alone, %.2f ms beside puts, %.2f ms beside puts and a snapshot "+
		"(at most 5)\n", tailRounds, median(p99[0]), median(p99[1]), median(p99[2]))
	return nil
}

// readBeside measures reads at their rate, with or without writes and snapshots meanwhile.
func (b *bench) readBeside(r *region, secrets int, writes, stream bool) (got result, saved int, err error) {
	ctx, stop := context.WithCancel(b.ctx)
	defer stop()
	var beside errgroup.Group
	if writes {
		puts := r.load("PutSecretValue", writers, tailTime, func(w, i int) []byte {
			return fmt.Appendf(nil, `{"SecretId":%q,"ClientRequestToken":%q,"SecretString":%q}`,
				name((w*7919+i*31)%secretsRead), uuid.NewString(), value(w, i))
		})
		puts.rate = tailWrites
		beside.Go(func() error {
			got, err := puts.run(ctx)
			if err == nil && got.errors > 0 {
				err = fmt.Errorf("%d of %d puts failed", got.errors, got.requests)
			}
			return err
		})
	}
	if stream {
		beside.Go(func() (err error) {
			saved, err = b.saveOver(ctx, r)
			return err
		})
	}
	reads := r.load("GetSecretValue", readers, tailTime, getBody(secrets))
	reads.rate = tailReads
	got, err = reads.run(ctx)
	if err == nil && got.errors > 0 {
		err = fmt.Errorf("%d of %d reads failed", got.errors, got.requests)
	}
	stop()
	if besides := beside.Wait(); err == nil {
		err = besides
	}
	return got, saved, err
}

// saveOver saves snapshots one after the other until ctx ends, and returns how many were whole.
func (b *bench) saveOver(ctx context.Context, r *region) (saved int, err error) {
	file := filepath.Join(b.dir, "tail.snapshot")
	for ctx.Err() == nil {
		args := append([]string{"-n", "19", b.binary, "snapshot", "save", file}, r.Nodes[0].OperatorFlags()...)
		out, err := exec.CommandContext(ctx, "nice", args...).CombinedOutput()
		if err != nil && ctx.Err() == nil {
			return saved, fmt.Errorf("save a snapshot: %w\n%s", err, out)
		}
		if err == nil {
			saved++
		}
		if err := os.RemoveAll(file); err != nil {
			return saved, err
		}
	}
	return saved, nil
}
