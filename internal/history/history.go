// Package history records what concurrent clients did to secrets and checks, with porcupine, that there is
// one order of it that each client's view and the real time agree with (linearizability).
//
// A history is checked secret by secret. A 4xx answer means that an operation did not happen; a timeout, a
// broken connection or a 5xx means that it may have happened, then or at any later time.
package history

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/anishathalye/porcupine"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
)

// Kind is what a client did.
type Kind int

// The kinds.
const (
	Put  Kind = iota // a new version, with AWSCURRENT
	Get              // by Label
	Move             // Label from version From to version To
)

// Input is an operation as it was asked for.
type Input struct {
	Secret   string
	Kind     Kind
	Version  string // Put: the version made
	Label    string
	From, To string
}

// Output is how it ended.
type Output struct {
	Refused bool   // 4xx
	NotSent bool   // nobody got the request
	Unknown bool   // may have happened
	Version string // Get: the version found; empty when there is none with the label
}

// OutputOf is what an SDK client's error says of an operation: refused by a 4xx, never sent, or perhaps carried out.
func OutputOf(err error) Output {
	var refused *awshttp.ResponseError
	switch {
	case err == nil:
		return Output{}
	case errors.Is(err, syscall.ECONNREFUSED): // the node is down: nobody got the request
		return Output{Refused: true, NotSent: true}
	case errors.As(err, &refused) && refused.HTTPStatusCode() >= 400 && refused.HTTPStatusCode() < 500:
		return Output{Refused: true}
	}
	return Output{Unknown: true}
}

// Recorder gathers operations of many clients.
type Recorder struct {
	mu    sync.Mutex // guards below
	start time.Time
	ops   []porcupine.Operation
	next  int
}

// NewRecorder starts a history.
func NewRecorder() *Recorder { return &Recorder{start: time.Now()} }

// Client is a new client id: a client whose operation's fate is unknown goes on under another.
func (r *Recorder) Client() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	return r.next
}

// Do records one operation of a client, and answers the id that the client goes on under.
func (r *Recorder) Do(client int, in Input, do func() Output) int {
	called := time.Since(r.start).Nanoseconds()
	out := do()
	if out.NotSent {
		return client
	}
	op := porcupine.Operation{
		ClientId: client, Input: in, Call: called, Output: out, Return: time.Since(r.start).Nanoseconds(),
	}
	if out.Unknown {
		if in.Kind == Get {
			return client // says nothing
		}
		op.Return = math.MaxInt64
		client = r.Client()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, op)
	return client
}

// Operations is what was recorded so far.
func (r *Recorder) Operations() []porcupine.Operation {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ops)
}

// state of one secret: its versions, and label -> version.
type state struct {
	versions map[string]bool
	labels   map[string]string
}

func (s state) clone() state { return state{maps.Clone(s.versions), maps.Clone(s.labels)} }

func (s state) promote(id string) {
	old := s.labels["AWSCURRENT"]
	s.labels["AWSCURRENT"] = id
	if old != "" && old != id {
		s.labels["AWSPREVIOUS"] = old
	}
}

var model = porcupine.Model{
	Partition: func(ops []porcupine.Operation) [][]porcupine.Operation {
		by := map[string][]porcupine.Operation{}
		for _, op := range ops {
			name := op.Input.(Input).Secret
			by[name] = append(by[name], op)
		}
		return slices.Collect(maps.Values(by))
	},
	Init: func() any { return state{map[string]bool{}, map[string]string{}} },
	Step: func(from, input, output any) (bool, any) {
		s, in, out := from.(state), input.(Input), output.(Output)
		switch in.Kind {
		case Get:
			return s.labels[in.Label] == out.Version, s
		case Put:
			if out.Refused || s.versions[in.Version] {
				return out.Refused || out.Unknown, s
			}
			s = s.clone()
			s.versions[in.Version] = true
			s.promote(in.Version)
			return true, s
		}
		possible := s.versions[in.To] && s.labels[in.Label] == in.From && in.From != ""
		switch {
		case out.Unknown && !possible:
			return true, s
		case out.Refused:
			return !possible, s
		case !possible:
			return false, s
		}
		s = s.clone()
		if in.Label == "AWSCURRENT" {
			s.promote(in.To)
		} else {
			s.labels[in.Label] = in.To
		}
		return true, s
	},
	Equal: func(a, b any) bool {
		x, y := a.(state), b.(state)
		return maps.Equal(x.labels, y.labels) && maps.Equal(x.versions, y.versions)
	},
}

// Check answers an error that names the secrets whose history has no possible order.
func Check(ops []porcupine.Operation, limit time.Duration) error {
	var wrong []string
	for _, part := range model.Partition(ops) {
		m := model
		m.Partition = nil
		switch porcupine.CheckOperationsTimeout(m, part, limit) {
		case porcupine.Illegal:
			wrong = append(wrong, part[0].Input.(Input).Secret)
		case porcupine.Unknown:
			return fmt.Errorf("the history of %s was not decided in %v", part[0].Input.(Input).Secret, limit)
		}
	}
	if wrong != nil {
		slices.Sort(wrong)
		return fmt.Errorf("not linearizable: %s", strings.Join(wrong, ", "))
	}
	return nil
}

// Text writes operations as lines, in the order of their calls, for people to look at.
func Text(ops []porcupine.Operation) []byte {
	slices.SortFunc(ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var out []byte
	for _, op := range ops {
		out = fmt.Appendf(out, "%d-%d client %d %+v -> %+v\n", op.Call/1000, op.Return/1000, op.ClientId, op.Input, op.Output)
	}
	return out
}
