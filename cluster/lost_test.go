package cluster_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"coffer/cluster"
	"coffer/cluster/quorum"
	"coffer/fsm"
	"coffer/refusal"
)

// TestARefusalIsFinalOnlyIfNoCopyIsOnItsWay has copies of a command come to a log that refuses it, and takes it later.
// Where an earlier copy may come to the log yet, the refusal of a later one is not what becomes of the command, and
// the client hears that this is not known. An earlier copy that was not proposed takes nothing from the refusal.
func TestARefusalIsFinalOnlyIfNoCopyIsOnItsWay(t *testing.T) {
	conflict := refusal.ErrConflict
	lost := errors.New("connection reset by peer")
	type reached struct {
		out fsm.Outcome
		err error
	}
	refused := reached{out: fsm.Outcome{Refused: conflict}}
	for name, c := range map[string]struct {
		copies []reached
		known  bool
	}{
		"refused at once":               {[]reached{refused}, true},
		"not made, then refused":        {[]reached{{err: cluster.ErrNotMade}, refused}, true},
		"lost, then refused":            {[]reached{{err: lost}, refused}, false},
		"lost, not made, then refused":  {[]reached{{err: lost}, {err: cluster.ErrNotMade}, refused}, false},
		"lost, then found carried out":  {[]reached{{err: lost}, {out: fsm.Outcome{Count: 1}}}, true},
		"lost, and nothing heard again": {[]reached{{err: lost}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				copies := c.copies
				out, err := cluster.Settle(ctx, []byte("command"), func() (fsm.Outcome, error) {
					at := copies[0]
					if len(copies) > 1 {
						copies = copies[1:]
					}
					return at.out, at.err
				})
				last := c.copies[len(c.copies)-1].out
				switch {
				case c.known && (err != nil || out.Refused != last.Refused || out.Count != last.Count):
					t.Errorf("wanted %+v, got %+v, %v", last, out, err)
				case !c.known && (!errors.Is(err, quorum.ErrUnavailable) || out.Refused != nil || refusal.Of(err) != nil):
					t.Errorf("wanted an unknown fate, got %+v, %v", out, err)
				}
			})
		})
	}
}
