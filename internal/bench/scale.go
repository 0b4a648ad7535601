package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"

	"coffer/fsm"
	"coffer/internal/testcluster"
)

const (
	secretsStored = 1_000_000
	pageSize      = 100
	pagesKnown    = 2_000 // of a list in order of creation, whose tokens are gathered before it is measured
	restarts      = 3
	scrubRate     = 2_000 // reads a second while a scrub runs
	scrubTime     = 5 * time.Second
)

// scale is a region of one node with many secrets beside one with 1,000.
type scale struct {
	*bench
	small, large *region
	secrets      int
	names        []int // of the large region's secrets, in the order in which they are created
	started      int64 // length of the large node's log before its last start
}

// scale measures what very many secrets cost one node: memory, restarts, reads, lists, its file, and a scrub.
func (b *bench) scale() (err error) {
	s := &scale{bench: b, secrets: b.secrets}
	if s.secrets == 0 {
		s.secrets = secretsStored
	}
	if s.secrets < 2*secretsRead {
		return fmt.Errorf("at least %d secrets are wanted, beside a region with %d", 2*secretsRead, secretsRead)
	}
	// A region that has grown has names in no order: rows in the order of their names would fill pages better, or worse.
	s.names = rand.New(rand.NewPCG(1, 1)).Perm(s.secrets)
	if s.small, err = b.region("scale-small", 1); err != nil {
		return err
	}
	defer s.small.Close()
	if s.large, err = b.region("scale-large", 1); err != nil {
		return err
	}
	defer s.large.Close()
	for _, step := range []func() error{s.store, s.restart, s.scrub, s.latency} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (s *scale) node() *testcluster.Node { return s.large.Nodes[0] }

// store creates the secrets of both regions.
func (s *scale) store() error {
	if err := s.create(s.small, 0, secretsRead); err != nil {
		return err
	}
	start := time.Now()
	ctx, stop := context.WithCancel(s.ctx)
	peak := make(chan float64)
	go func() { peak <- peakMemory(ctx, s.node().PID()) }()
	err := s.createNamed(s.large, s.secrets, func(i int) string { return name(s.names[i]) })
	stop()
	highest := <-peak
	if err != nil {
		return err
	}
	took := time.Since(start).Seconds()
	memory, err := anonymous(s.node().PID())
	if err != nil {
		return err
	}
	fmt.Printf("%d secrets of 1 KiB created in %.0f s, %.0f a second\n", s.secrets, took, float64(s.secrets)/took)
	fmt.Printf("anonymous memory: at most %.0f MiB while they were created, %.0f MiB after (below 500)\n", highest, memory)
	return nil
}

// peakMemory is the most anonymous memory that a process has until ctx ends, in MiB.
func peakMemory(ctx context.Context, pid int) (highest float64) {
	for ctx.Err() == nil {
		if now, err := anonymous(pid); err == nil {
			highest = max(highest, now)
		}
		wait(ctx, 100*time.Millisecond)
	}
	return highest
}

// restart ends the node, in order and by force while it takes writes, and measures until it is ready again.
func (s *scale) restart() error {
	puts := s.large.load("PutSecretValue", writers, 2*time.Second, func(w, i int) []byte {
		return fmt.Appendf(nil, `{"SecretId":%q,"ClientRequestToken":%q,"SecretString":%q}`,
			name((w*7919+i*31)%secretsRead), uuid.NewString(), value(w, i))
	})
	var inOrder, byForce []float64
	for round := range restarts {
		took, err := s.again(s.node().Stop)
		if err != nil {
			return err
		}
		if inOrder = append(inOrder, took); round == 0 {
			if err := s.fileSize(); err != nil {
				return err
			}
		}
		puts.pids = []int{s.node().PID()}
		if got, err := puts.run(s.ctx); err != nil || got.errors > 0 {
			return fmt.Errorf("puts before a kill: %d errors, %w", got.errors, err)
		}
		if took, err = s.again(s.node().Kill); err != nil {
			return err
		}
		byForce = append(byForce, took)
	}
	fmt.Printf("restart to ready, median of %d: after SIGTERM %.2f s (below 1) of %.2f, after SIGKILL right behind "+
		"writes %.2f s (below 3) of %.2f\n", restarts, median(inOrder), inOrder, median(byForce), byForce)
	return nil
}

// again ends the node and starts it.
func (s *scale) again(end func()) (seconds float64, err error) {
	end()
	log, err := os.Stat(s.node().Log)
	if err != nil {
		return 0, err
	}
	s.started = log.Size()
	start := time.Now()
	if err := s.node().Start(); err != nil {
		return 0, err
	}
	err = s.node().AwaitReady(s.ctx)
	return time.Since(start).Seconds(), err
}

// fileSize tells how large the state is, which was written in order.
func (s *scale) fileSize() error {
	state, err := os.Stat(filepath.Join(s.node().Data, fsm.File))
	if err != nil {
		return err
	}
	free, err := s.node().Metric("coffer_state_free_bytes")
	if err != nil {
		return err
	}
	fmt.Printf("%s: %d bytes, %.0f a secret (at most 2200); %s of them free\n",
		fsm.File, state.Size(), float64(state.Size())/float64(s.secrets), free)
	return nil
}

// scrub measures reads while a scrub runs, as it does after each start, and as many reads without one.
func (s *scale) scrub() error {
	reads := s.large.load("GetSecretValue", readers, scrubTime, getBody(s.secrets))
	reads.rate = scrubRate
	var with, without result
	for range 2 { // the first time warms up
		if _, err := s.again(s.node().Stop); err != nil {
			return err
		}
		reads.pids = []int{s.node().PID()}
		var err error
		if with, err = reads.run(s.ctx); err != nil {
			return err
		}
		if took, _ := s.scrubbed(); took > 0 {
			fmt.Printf("the scrub after the start was over before the reads were, in %.1f s\n", took.Seconds())
		}
		if _, err := s.awaitScrub(); err != nil {
			return err
		}
		if without, err = reads.run(s.ctx); err != nil {
			return err
		}
	}
	took, err := s.awaitScrub()
	if err != nil {
		return err
	}
	state, err := os.Stat(filepath.Join(s.node().Data, fsm.File))
	if err != nil {
		return err
	}
	fmt.Printf("scrub: %.1f s, %.0f MB a second; %d reads a second while it runs: %v\n"+
		"                                                       without: %v\n",
		took.Seconds(), float64(state.Size())/1e6/took.Seconds(), scrubRate, with, without)
	return nil
}

func (s *scale) awaitScrub() (took time.Duration, err error) {
	err = testcluster.Eventually(s.ctx, "the scrub after the start to end", func() error {
		took, err = s.scrubbed()
		return err
	})
	return took, err
}

// scrubbed is how long the scrub took that began with the node's last start; an error while it runs.
func (s *scale) scrubbed() (took time.Duration, err error) {
	log, err := os.ReadFile(s.node().Log)
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(log[s.started:]) {
		var said struct{ Msg, Took string }
		if json.Unmarshal(line, &said) == nil && said.Msg == "all that is stored was verified" {
			return time.ParseDuration(said.Took)
		}
	}
	return 0, errors.New("it runs")
}

// latency measures reads and lists of both regions in turn.
func (s *scale) latency() error {
	operations := []struct {
		name       string
		most       float64
		of         func(r *region, secrets int) (load, error)
		large, few []float64
	}{
		{name: "GetSecretValue", most: 1.2, of: s.values},
		{name: "ListSecrets, a page of 100 by creation", most: 1.3, of: s.pages},
		{name: "ListSecrets, a page of 100 by name prefix", most: 1.3, of: s.prefixes},
	}
	for i := range operations {
		o := &operations[i]
		few, err := o.of(s.small, secretsRead)
		if err != nil {
			return err
		}
		large, err := o.of(s.large, s.secrets)
		if err != nil {
			return err
		}
		for round := range readRounds + 1 {
			for _, c := range []struct {
				load load
				p50  *[]float64
			}{{few, &o.few}, {large, &o.large}} {
				got, err := c.load.run(s.ctx)
				if err != nil {
					return err
				}
				if round == 0 {
					continue // warming up
				}
				fmt.Printf("%-41s %v\n", o.name, got)
				*c.p50 = append(*c.p50, ms(got.p50))
			}
		}
		var ratios []float64
		for round, few := range o.few {
			ratios = append(ratios, o.large[round]/few)
		}
		fmt.Printf("%s: p50 %.2f × that with %d secrets (at most %.1f)\n", o.name, median(ratios), secretsRead, o.most)
	}
	memory, err := anonymous(s.node().PID())
	if err != nil {
		return err
	}
	fmt.Printf("anonymous memory after reading: %.0f MiB (below 500)\n", memory)
	return nil
}

func (s *scale) values(r *region, secrets int) (load, error) {
	return r.load("GetSecretValue", readers, roundTime, getBody(secrets)), nil
}

// pages are those of a list in order of creation, in no order.
func (s *scale) pages(r *region, secrets int) (l load, err error) {
	client, tokens := r.Nodes[0].Client(), []*string{nil}
	for len(tokens) < min(secrets/pageSize, pagesKnown) {
		page, err := client.ListSecrets(s.ctx, &secretsmanager.ListSecretsInput{
			MaxResults: aws.Int32(pageSize), NextToken: tokens[len(tokens)-1],
		})
		if err != nil {
			return l, err
		}
		tokens = append(tokens, page.NextToken)
	}
	bodies := make([][]byte, len(tokens))
	for i, token := range tokens {
		if bodies[i], err = json.Marshal(struct {
			MaxResults int
			NextToken  *string `json:",omitempty"`
		}{pageSize, token}); err != nil {
			return l, err
		}
	}
	return r.load("ListSecrets", readers, roundTime, func(w, i int) []byte {
		return bodies[(w*7919+i*31)%len(bodies)]
	}), nil
}

// prefixes are pages of the 100 secrets whose names start alike.
func (s *scale) prefixes(r *region, secrets int) (load, error) {
	return r.load("ListSecrets", readers, roundTime, func(w, i int) []byte {
		return fmt.Appendf(nil, `{"MaxResults":%d,"Filters":[{"Key":"name","Values":["bench/%04d"]}]}`,
			pageSize, (w*7919+i*31)%(secrets/pageSize))
	}), nil
}
