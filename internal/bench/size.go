package main

import (
	"fmt"
	"time"

	"github.com/google/uuid"
)

const secretsStored = 100_000

// size measures what 100,000 secrets of two versions cost beside 1,000: memory, restart, reads, lists.
func (b *bench) size() error {
	small, err := b.region("size-small", 1)
	if err != nil {
		return err
	}
	defer small.Close()
	if err := b.create(small, 0, secretsRead); err != nil {
		return err
	}
	large, err := b.region("size-large", 1)
	if err != nil {
		return err
	}
	defer large.Close()
	start := time.Now()
	if err := b.create(large, 0, secretsStored); err != nil {
		return err
	}
	second := large.load("PutSecretValue", writers, 0, func(w, i int) []byte {
		return fmt.Appendf(nil, `{"SecretId":%q,"ClientRequestToken":%q,"SecretString":%q}`,
			name(i*writers+w), uuid.NewString(), value(w, i))
	})
	second.count = secretsStored
	if got, err := second.run(b.ctx); err != nil || got.errors > 0 {
		return fmt.Errorf("%d errors, %w", got.errors, err)
	}
	fmt.Printf("stored %d secrets of 1 KiB with 2 versions in %.0f s\n", secretsStored, time.Since(start).Seconds())
	node := large.Nodes[0]
	memory, err := anonymous(node.PID())
	if err != nil {
		return err
	}
	fmt.Printf("anonymous memory after storing: %.0f MiB (below 300)\n", memory)
	for _, how := range []struct {
		name string
		end  func()
	}{{"SIGTERM", node.Stop}, {"SIGKILL", node.Kill}} {
		how.end()
		start = time.Now()
		if err := node.Start(); err != nil {
			return err
		}
		if err := node.AwaitReady(b.ctx); err != nil {
			return err
		}
		fmt.Printf("restart to ready after %s: %.2f s (below 3)\n", how.name, time.Since(start).Seconds())
	}
	reads := map[string][]float64{}
	for round := range readRounds + 1 {
		for _, c := range []struct {
			name string
			load load
		}{
			{"1,000", small.load("GetSecretValue", readers, roundTime, getBody(secretsRead))},
			{"100,000", large.load("GetSecretValue", readers, roundTime, getBody(secretsStored))},
			{"list", large.load("ListSecrets", readers, roundTime, func(w, i int) []byte {
				return fmt.Appendf(nil, `{"MaxResults":100,"Filters":[{"Key":"name","Values":["bench/%04d"]}]}`,
					(w*7919+i*31)%(secretsStored/100))
			})},
		} {
			got, err := c.load.run(b.ctx)
			if err != nil {
				return err
			}
			if round == 0 {
				continue // warming up
			}
			fmt.Printf("%-8s %v\n", c.name, got)
			reads[c.name] = append(reads[c.name], got.cpu)
			reads[c.name+" p50"] = append(reads[c.name+" p50"], ms(got.p50))
		}
	}
	if memory, err = anonymous(node.PID()); err != nil {
		return err
	}
	fmt.Printf("anonymous memory after reading: %.0f MiB (below 300)\n", memory)
	var latency, list []float64
	for i := range reads["list"] {
		latency = append(latency, reads["100,000 p50"][i]/reads["1,000 p50"][i])
		list = append(list, reads["list"][i]/reads["100,000"][i])
	}
	fmt.Printf("median read latency: with 100,000 secrets %.2f × that with 1,000 (at most 1.3)\n", median(latency))
	fmt.Printf("a page of 100 by name prefix: %.2f × the CPU of a GetSecretValue (at most 5)\n", median(list))
	return nil
}
