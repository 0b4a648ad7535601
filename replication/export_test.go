package replication

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"coffer/fsm"
)

// Stepper drives an agent's courier to one region by hand, in a term.
type Stepper struct{ c *courier }

// Stepper makes one. What the agent receives is brought in one after the other.
func (a *Agent) Stepper(region string, term uint64) *Stepper {
	a.atOnce = 1
	return &Stepper{newCourier(a, region, term)}
}

// EnsureKey makes the region's key pair.
func (a *Agent) EnsureKey(ctx context.Context) error { return a.keys.ensure(ctx) }

// Step sends one batch of what is in the outbox, and reports whether there was something that could be sent.
func (s *Stepper) Step(ctx context.Context) bool {
	s.c.missed = true
	if s.c.publicKey() == nil {
		if s.c.greet(ctx) != nil {
			return true
		}
	}
	keys, err := s.c.next()
	if err != nil || len(keys) == 0 {
		return err != nil
	}
	s.deliver(ctx, keys)
	s.c.failing = 0
	return true
}

func (s *Stepper) deliver(ctx context.Context, keys []string) {
	s.c.deliver(ctx, keys)
	s.c.busy.Wait()
}

// Only sends the secret with a name, and nothing else.
func (s *Stepper) Only(ctx context.Context, name string) {
	if s.c.publicKey() == nil && s.c.greet(ctx) != nil {
		return
	}
	_ = s.c.a.base.Store.View(func(tx *fsm.Tx) error {
		tx.Outbox(s.c.region, "", func(e fsm.OutboxEntry) bool {
			if e.Lag != nil && e.Ref.Name == name {
				s.c.inFlight[e.Key] = false
			}
			return true
		})
		return nil
	})
	s.deliver(ctx, slices.Collect(maps.Keys(s.c.inFlight)))
}

// Greet asks the region for its key and epoch again.
func (s *Stepper) Greet(ctx context.Context) error { return s.c.greet(ctx) }

// Compare compares the regions once.
func (s *Stepper) Compare(ctx context.Context) { s.c.compare(ctx) }

// Suspects is how many links the last comparison found to differ.
func (s *Stepper) Suspects() int { return len(s.c.suspects) }

// Paths are what regions call.
var Paths = []string{helloPath, sendPath, comparePath}

// Bring carries out a message that was opened.
func (a *Agent) Bring(ctx context.Context, source string, k byte, link string, revision uint64, content []byte) {
	a.bring(ctx, fsm.Sender{Region: source, Epoch: 1, Term: 1}, &message{Kind: kind(k), Link: link, Revision: revision},
		content)
}

// Answer answers a question of another region as its peer port does, from bytes to bytes.
func (a *Agent) Answer(ctx context.Context, source, path string, question []byte) ([]byte, error) {
	switch path {
	case helloPath:
		return answer(ctx, source, question, a.welcome)
	case sendPath:
		return answer(ctx, source, question, a.receive)
	case comparePath:
		return answer(ctx, source, question, a.compared)
	}
	return nil, errors.New("no such path")
}

func answer[In, Out any](ctx context.Context, source string, question []byte,
	do func(context.Context, string, *In) (*Out, error)) ([]byte, error) {
	in := new(In)
	if err := decoding.Unmarshal(question, in); err != nil {
		return nil, err
	}
	out, err := do(ctx, source, in)
	if err != nil {
		return nil, err
	}
	return encoding.Marshal(out)
}

// Encode and Decode are the encoding of questions and answers.
func Encode(v any) ([]byte, error)    { return encoding.Marshal(v) }
func Decode(b []byte, into any) error { return decoding.Unmarshal(b, into) }
func IsSend(path string) bool         { return path == sendPath }

// Metrics are the names of the agent's metrics.
func (a *Agent) Metrics() (names []string) {
	m := a.metrics
	found := make(chan *prometheus.Desc)
	go func() {
		defer close(found)
		for _, c := range []prometheus.Collector{m.deliveries, m.failures, m.repairs, m.orphans, m.lastSuccess, m} {
			c.Describe(found)
		}
	}()
	for d := range found {
		_, name, _ := strings.Cut(d.String(), `fqName: "`)
		name, _, _ = strings.Cut(name, `"`)
		names = append(names, name)
	}
	return names
}
