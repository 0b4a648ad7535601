package cluster

import (
	"net"
	"testing"

	"pgregory.net/rapid"
)

type fakeConn struct {
	net.Conn
	closed bool
}

func (c *fakeConn) Close() error { c.closed = true; return nil }

// TestNewcomersGetIn shows that a new connection always gets in, that no bound is passed, and that who holds fewer
// connections than another loses none to a third.
func TestNewcomersGetIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := newOpenConns(4, 10)
		open := map[*fakeConn]*watchConn{}
		count := func() map[string]int {
			by := map[string]int{}
			for _, w := range open {
				by[w.key]++
			}
			return by
		}
		for number := range rapid.IntRange(1, 60).Draw(t, "connections") {
			if len(open) > 0 && rapid.IntRange(0, 3).Draw(t, "close") == 0 {
				for c, w := range open {
					_ = w.Close()
					delete(open, c)
					break
				}
			}
			before := count()
			raw := &fakeConn{}
			conn := &watchConn{Conn: raw, number: uint64(number)}
			conn.moveTo(table, rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(t, "key"))
			open[raw] = conn
			var displaced *watchConn
			for c, w := range open {
				if c.closed {
					displaced = w
					delete(open, c)
				}
			}
			by := count()
			switch {
			case raw.closed:
				t.Fatal("a newcomer was closed")
			case by[conn.key] > 4 || len(open) > 10 || table.count != len(open):
				t.Fatalf("bounds were passed: %v, counted %d", by, table.count)
			}
			if displaced != nil && displaced.key != conn.key {
				for key, had := range before {
					if had > before[displaced.key] {
						t.Fatalf("%s lost a connection though %s had more: %v", displaced.key, key, before)
					}
				}
			}
		}
	})
}
