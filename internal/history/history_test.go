package history_test

import (
	"math"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"coffer/internal/history"
)

func op(client int, call, ret int64, in history.Input, out history.Output) porcupine.Operation {
	in.Secret = "s"
	return porcupine.Operation{ClientId: client, Call: call, Return: ret, Input: in, Output: out}
}

func put(v string) history.Input { return history.Input{Kind: history.Put, Version: v} }
func get(l string) history.Input { return history.Input{Kind: history.Get, Label: l} }
func move(from, to string) history.Input {
	return history.Input{Kind: history.Move, Label: "AWSCURRENT", From: from, To: to}
}
func found(v string) history.Output { return history.Output{Version: v} }

// TestCheckerCatchesSeededFaults shows what the checker accepts, and that it catches each fault that a
// cluster could have.
func TestCheckerCatchesSeededFaults(t *testing.T) {
	const current, previous = "AWSCURRENT", "AWSPREVIOUS"
	ok := history.Output{}
	unknown, refused := history.Output{Unknown: true}, history.Output{Refused: true}
	for name, test := range map[string]struct {
		ops   []porcupine.Operation
		legal bool
	}{
		"in order": {
			[]porcupine.Operation{op(1, 0, 1, put("a"), ok), op(1, 2, 3, get(current), found("a"))}, true,
		},
		"concurrent either way": {
			[]porcupine.Operation{
				op(1, 0, 9, put("a"), ok), op(2, 1, 2, get(current), found("")), op(3, 3, 4, get(current), found("a")),
			}, true,
		},
		"unknown, happened": {
			[]porcupine.Operation{op(1, 0, math.MaxInt64, put("a"), unknown), op(2, 5, 6, get(current), found("a"))}, true,
		},
		"unknown, did not": {
			[]porcupine.Operation{op(1, 0, math.MaxInt64, put("a"), unknown), op(2, 5, 6, get(current), found(""))}, true,
		},
		"previous": {
			[]porcupine.Operation{op(1, 0, 1, put("a"), ok), op(1, 2, 3, put("b"), ok), op(1, 4, 5, get(previous), found("a"))},
			true,
		},
		"moved back": {
			[]porcupine.Operation{
				op(1, 0, 1, put("a"), ok), op(1, 2, 3, put("b"), ok), op(1, 4, 5, move("b", "a"), ok),
				op(1, 6, 7, get(previous), found("b")),
			}, true,
		},

		"stale read": {
			[]porcupine.Operation{op(1, 0, 1, put("a"), ok), op(1, 2, 3, put("b"), ok), op(2, 4, 5, get(current), found("a"))},
			false,
		},
		"lost write": {
			[]porcupine.Operation{op(1, 0, 1, put("a"), ok), op(2, 2, 3, get(current), found(""))}, false,
		},
		"read goes back": {
			[]porcupine.Operation{
				op(1, 0, 9, put("a"), ok), op(2, 1, 2, get(current), found("a")), op(2, 3, 4, get(current), found("")),
			}, false,
		},
		"lost label move": {
			[]porcupine.Operation{
				op(1, 0, 1, put("a"), ok), op(1, 2, 3, put("b"), ok), op(1, 4, 5, move("b", "a"), ok),
				op(1, 6, 7, get(current), found("b")),
			}, false,
		},
		"two current": {
			[]porcupine.Operation{
				op(1, 0, 1, put("a"), ok), op(1, 2, 3, put("b"), ok), op(1, 4, 5, get(current), found("b")),
				op(2, 6, 7, get(current), found("a")),
			}, false,
		},
		"previous not moved": {
			[]porcupine.Operation{op(1, 0, 1, put("a"), ok), op(1, 2, 3, put("b"), ok), op(1, 4, 5, get(previous), found(""))},
			false,
		},
		"token made two versions": {[]porcupine.Operation{op(1, 0, 1, put("a"), ok), op(1, 2, 3, put("a"), ok)}, false},
		"refused but happened": {
			[]porcupine.Operation{op(1, 0, 1, put("a"), refused), op(1, 2, 3, get(current), found("a"))}, false,
		},
		"refused without a reason": {
			[]porcupine.Operation{op(1, 0, 1, put("a"), ok), op(1, 2, 3, put("b"), ok), op(1, 4, 5, move("b", "a"), refused)},
			false,
		},
	} {
		if err := history.Check(test.ops, time.Second); (err == nil) != test.legal {
			t.Errorf("%s: %v", name, err)
		}
	}
}
