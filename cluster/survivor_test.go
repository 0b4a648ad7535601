package cluster_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"coffer/cluster"
	"coffer/fsm"
)

// survivor opens what a stopped node left.
func (m *member) survivor() *cluster.Survivor {
	m.g.t.Helper()
	s, err := m.openSurvivor()
	noError(m.g.t, err)
	return s
}

func (m *member) openSurvivor() (*cluster.Survivor, error) {
	store, err := fsm.Open(m.dir, fsm.Options{Log: m.config.Log})
	if err != nil {
		return nil, err
	}
	return cluster.OpenSurvivor(cluster.SurvivorConfig{
		Dir: m.dir, Store: store, Credentials: m.config.Credentials, Log: m.config.Log,
	})
}

// recovered makes a stopped node its region, and returns the new cluster's id.
func (m *member) recovered() string {
	m.g.t.Helper()
	s := m.survivor()
	id, err := s.Recover()
	noError(m.g.t, errors.Join(err, s.Close()))
	return id
}

func (m *member) epoch() (epoch int64) {
	m.g.t.Helper()
	noError(m.g.t, m.config.Store.View(func(tx *fsm.Tx) error {
		c, _ := tx.Cluster()
		epoch = c.Epoch
		return nil
	}))
	return epoch
}

func (m *member) members() (ids []string) {
	for _, s := range m.Status().Members {
		ids = append(ids, s.ID)
	}
	return ids
}

// TestASurvivorBecomesTheRegion loses two of three nodes for good: the third is made the region, with all that it
// has, in another epoch, and others join it with empty disks.
func TestASurvivorBecomesTheRegion(t *testing.T) {
	g := newGroup(t)
	nodes := g.three()
	for i := range 20 {
		noError(t, nodes[0].write(fmt.Sprint("before ", i)))
	}
	n := nodes[1]
	n.await("all writes", func() error {
		if last, applied := nodes[0].Status().Last, n.config.Store.Applied(); applied < last {
			return fmt.Errorf("entry %d of %d", applied, last)
		}
		return nil
	})
	before, epoch := n.Status(), n.epoch()
	for _, m := range nodes {
		m.stop()
	}

	s := n.survivor()
	remains := s.Remains()
	noError(t, s.Close())
	if remains.Node != "n2" || remains.Index < before.Last || remains.Term < before.Term || len(remains.Members) != 3 ||
		remains.Written.IsZero() || remains.Interrupted || remains.Committed < before.Applied {
		t.Errorf("%+v, wanted at least entry %d of term %d and three members", remains, before.Last, before.Term)
	}
	first := n.recovered()
	if second := n.recovered(); first == second {
		t.Error("two recoveries make one cluster") // and it can be run again
	}

	n.start()
	n.awaitReady()
	noError(t, n.write("after"))
	if n.epoch() <= epoch {
		t.Errorf("the epoch is %d, it was %d: other regions would not notice", n.epoch(), epoch)
	}
	if got := fmt.Sprint(n.members()); got != "[n2]" {
		t.Errorf("the members are %s", got)
	}
	began := n.epoch()
	n.stop()
	n.start() // a restart is no recovery
	n.awaitReady()
	noError(t, n.write("after a restart"))
	if n.epoch() != began {
		t.Error("a restart began another epoch")
	}

	for _, m := range []*member{nodes[0], nodes[2]} {
		noError(t, os.RemoveAll(m.dir))
		m.config.Join = []string{n.config.GossipAddr}
		m.start()
		m.awaitReady()
	}
	n.await("three voters of one state", func() error {
		var digests []string
		for _, m := range nodes {
			s := m.Status()
			digests = append(digests, fmt.Sprint(s.Applied, " ", s.Digest))
		}
		if len(n.members()) != 3 || digests[0] != digests[1] || digests[1] != digests[2] {
			return fmt.Errorf("members %v, states %v", n.members(), digests)
		}
		return nil
	})
	noError(t, nodes[0].write("together"))
}

func TestASurvivorIsAskedForByItsOwnName(t *testing.T) {
	g := newGroup(t)
	n := g.add("n1", 1)
	n.awaitReady()
	if _, err := n.openSurvivor(); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a node that runs: %v", err)
	}
	n.stop()
	n.config.Credentials = g.credentials("node", "n9")
	_, err := n.openSurvivor()
	if err == nil || !strings.Contains(err.Error(), "n9") {
		t.Errorf("another node's certificate: %v", err)
	}
}
