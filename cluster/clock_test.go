package cluster_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"coffer/cluster"
	"coffer/cluster/pki"
)

// TestClocksAreCompared has one of three nodes' clocks an hour ahead: the others agree with each other, it with nobody.
func TestClocksAreCompared(t *testing.T) {
	g := newGroup(t)
	g.with = func(c *cluster.Config) {
		if c.Credentials.Identity.ID == "n3" {
			c.Now = func() time.Time { return time.Now().Add(time.Hour) }
		}
	}
	nodes := g.three()
	for _, m := range nodes[:2] {
		m.await("the clock to be believed", func() error {
			_, err := m.Time()
			return err
		})
	}
	fast := nodes[2]
	fast.await("the clocks to be compared", func() error {
		clock := fast.Status().Clock
		if clock.Believed || len(clock.Others) != 2 {
			return fmt.Errorf("%+v", clock)
		}
		return nil
	})
	if got := fast.ClockAhead(); got < time.Hour-time.Minute || got > time.Hour+time.Minute {
		t.Errorf("it is ahead by %v", got)
	}
	if got := nodes[0].ClockAhead().Abs(); got > 30*time.Second {
		t.Errorf("a right clock is off by %v", got)
	}
	// An operator's word is about this clock alone, and does not make others wrong.
	operator := g.credentials(pki.Operator, "op")
	status, _, err := fast.call(operator, http.MethodPost, "/confirm-clock", nil)
	if err != nil || status != http.StatusOK {
		t.Errorf("%d %v", status, err)
	}
	if _, err := fast.Time(); err == nil {
		t.Error("a clock that a majority's differ from is believed")
	}
	status, _, err = fast.call(operator, http.MethodPost, "/clock", nil)
	if err != nil || status != http.StatusForbidden {
		t.Errorf("an operator asked a node's time: %d %v", status, err)
	}
}

// TestTimeIsNotedForNextStart starts a lone node again with a clock that is a day ahead.
func TestTimeIsNotedForNextStart(t *testing.T) {
	g := newGroup(t)
	m := g.add("n1", 1)
	m.awaitReady()
	m.await("the clock to be believed", func() error {
		_, err := m.Time()
		return err
	})
	for _, ahead := range []time.Duration{0, 24 * time.Hour, 0} {
		m.stop()
		m.config.Now = func() time.Time { return time.Now().Add(ahead) }
		m.start()
		m.awaitReady()
		m.await("the node to judge its clock", func() error {
			if _, err := m.Time(); (err == nil) != (ahead == 0) {
				return errors.Join(fmt.Errorf("with a clock ahead by %v", ahead), err)
			}
			return nil
		})
	}
}
