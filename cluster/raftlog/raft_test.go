package raftlog_test

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"coffer/cluster/raftlog"
)

// hanging is a store whose writes hang until let go.
type hanging struct {
	raft.LogStore
	hangs atomic.Bool
	let   chan struct{}
}

func (h *hanging) StoreLogs(entries []*raft.Log) error {
	if h.hangs.Load() {
		<-h.let
	}
	return h.LogStore.StoreLogs(entries)
}

type machine struct{ applied atomic.Int32 }

func (m *machine) Apply(*raft.Log) any                 { m.applied.Add(1); return nil }
func (m *machine) Snapshot() (raft.FSMSnapshot, error) { return nil, raft.ErrNothingNewToSnapshot }
func (m *machine) Restore(r io.ReadCloser) error       { return r.Close() }

// member is a Raft node over the log of this package.
type member struct {
	raft  *raft.Raft
	disk  *hanging
	log   *raftlog.Log
	trans *raft.InmemTransport
	fsm   *machine
}

// group starts three members. A member whose disk hangs is cut off, as a node cuts itself off before it ends.
func group(t *testing.T) []*member {
	var members []*member
	var servers raft.Configuration
	for i := range 3 {
		addr, trans := raft.NewInmemTransport(raft.ServerAddress(fmt.Sprint("n", i)))
		members = append(members, &member{trans: trans, fsm: &machine{}})
		servers.Servers = append(servers.Servers, raft.Server{ID: raft.ServerID(addr), Address: addr})
	}
	for _, m := range members {
		for _, other := range members {
			m.trans.Connect(other.trans.LocalAddr(), other.trans)
		}
	}
	for i, m := range members {
		o := new(told).options()
		o.OnHung = func(error) {
			m.trans.DisconnectAll()
			for _, other := range members {
				other.trans.Disconnect(m.trans.LocalAddr())
			}
		}
		log, err := raftlog.Open(t.TempDir(), o)
		noError(t, err)
		m.log, m.disk = log, &hanging{let: make(chan struct{})}
		log.Between(func(s raft.LogStore) raft.LogStore { m.disk.LogStore = s; return m.disk })
		c := raft.DefaultConfig()
		c.LocalID, c.LogOutput = servers.Servers[i].ID, io.Discard
		noError(t, raft.BootstrapCluster(c, log, log, raft.NewInmemSnapshotStore(), m.trans, servers))
		m.raft, err = raft.NewRaft(c, m.fsm, log, log, raft.NewInmemSnapshotStore(), m.trans)
		noError(t, err)
	}
	return members
}

func leaderOf(members []*member) *member {
	for _, m := range members {
		if m.raft.State() == raft.Leader {
			return m
		}
	}
	return nil
}

// TestALeaderWithAHungDiskDoesNotLeadForEver hangs the leader's log: its heartbeats go on, so that the others follow
// it, until the watchdog tells.
func TestALeaderWithAHungDiskDoesNotLeadForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		members := group(t)
		time.Sleep(10 * time.Second)
		leader := leaderOf(members)
		noError(t, leader.raft.Apply([]byte("1"), 0).Error())
		leader.disk.hangs.Store(true)
		leader.raft.Apply([]byte("2"), 0)
		time.Sleep(raftlog.DefaultHungAfter - time.Second)
		var others []*member
		for _, m := range members {
			if m != leader {
				others = append(others, m)
				if _, id := m.raft.LeaderWithID(); string(id) != string(leader.trans.LocalAddr()) {
					t.Errorf("a slow write cost the leadership: %q leads", id)
				}
			}
		}
		time.Sleep(10 * time.Second)
		next := leaderOf(others)
		if next == nil {
			t.Error("nobody else leads")
		} else {
			noError(t, next.raft.Apply([]byte("3"), 0).Error())
		}
		close(leader.disk.let)
		for _, m := range members {
			noError(t, m.raft.Shutdown().Error())
			noError(t, m.log.Close())
		}
	})
}

// TestARestoreLeavesNoHole restores a snapshot: the log begins anew after it.
func TestARestoreLeavesNoHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		members := group(t)
		time.Sleep(10 * time.Second)
		leader := leaderOf(members)
		noError(t, leader.raft.Apply([]byte("1"), 0).Error())
		noError(t, leader.raft.Restore(&raft.SnapshotMeta{Version: 1, Size: 1}, strings.NewReader("s"), 0))
		noError(t, leader.raft.Apply([]byte("2"), 0).Error())
		time.Sleep(10 * time.Second)
		for _, m := range members {
			first, err := m.log.FirstIndex()
			noError(t, err)
			last, err := m.log.LastIndex()
			noError(t, err)
			for i := first; i <= last; i++ {
				if err := m.log.GetLog(i, new(raft.Log)); err != nil {
					t.Errorf("%s: entry %d of %d to %d: %v", m.trans.LocalAddr(), i, first, last, err)
				}
			}
			if m.fsm.applied.Load() == 0 || first < 3 {
				t.Errorf("%s has entries from %d", m.trans.LocalAddr(), first)
			}
			noError(t, m.raft.Shutdown().Error())
			noError(t, m.log.Close())
		}
	})
}
