package cluster_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"coffer/cluster"
	"coffer/cluster/pki"
)

// intruder speaks Raft to a node with some certificate.
type intruder struct {
	net.Listener
	to *member
	as *pki.Credentials
}

// Dial is part of raft.StreamLayer.
func (i intruder) Dial(raft.ServerAddress, time.Duration) (net.Conn, error) {
	conn, err := tls.Dial("tcp", i.to.peer(), i.as.Client(region, i.to.config.Credentials.Identity.ID, "coffer-raft"))
	if err != nil {
		return nil, err
	}
	id := i.to.ID()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Write(append([]byte{byte(len(id))}, id...)); err != nil {
		return nil, err
	}
	size := make([]byte, 1)
	if _, err := io.ReadFull(conn, size); err != nil {
		return nil, err
	}
	text := make([]byte, size[0])
	if _, err := io.ReadFull(conn, text); err != nil {
		return nil, err
	}
	if len(text) > 0 {
		return nil, errors.New(string(text))
	}
	return conn, nil
}

// send sends each kind of Raft message in a term, and says which were answered without an error.
func (i intruder) send(t *testing.T, id string, term uint64) (answered []string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	noError(t, err)
	i.Listener = l
	trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: i, MaxPool: 0, Timeout: 5 * time.Second, Logger: hclog.NewNullLogger(), MsgpackUseNewTimeFormat: true,
	})
	defer trans.Close()
	h := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(id), Addr: []byte(id)}
	for name, send := range map[string]func() error{
		"heartbeat": func() error {
			return trans.AppendEntries("x", "x", &raft.AppendEntriesRequest{RPCHeader: h, Term: term, Leader: []byte(id)},
				&raft.AppendEntriesResponse{})
		},
		"AppendEntries": func() error {
			return trans.AppendEntries("x", "x", &raft.AppendEntriesRequest{
				RPCHeader: h, Term: term, Leader: []byte(id), LeaderCommitIndex: 1 << 40,
				Entries: []*raft.Log{{Index: 1, Term: term, Data: []byte("garbage")}},
			}, &raft.AppendEntriesResponse{})
		},
		"RequestVote": func() error {
			return trans.RequestVote("x", "x", &raft.RequestVoteRequest{
				RPCHeader: h, Term: term, Candidate: []byte(id), LastLogIndex: 1 << 40, LastLogTerm: term, LeadershipTransfer: true,
			}, &raft.RequestVoteResponse{})
		},
		"RequestPreVote": func() error {
			return trans.RequestPreVote("x", "x", &raft.RequestPreVoteRequest{
				RPCHeader: h, Term: term, LastLogIndex: 1 << 40, LastLogTerm: term,
			}, &raft.RequestPreVoteResponse{})
		},
		"InstallSnapshot": func() error {
			data := []byte("garbage")
			return trans.InstallSnapshot("x", "x", &raft.InstallSnapshotRequest{
				RPCHeader: h, SnapshotVersion: 1, Term: term, Leader: []byte(id), LastLogIndex: 1 << 40, LastLogTerm: term,
				Size: int64(len(data)),
			}, &raft.InstallSnapshotResponse{}, bytes.NewReader(data))
		},
		"TimeoutNow": func() error {
			return trans.TimeoutNow("x", "x", &raft.TimeoutNowRequest{RPCHeader: h}, &raft.TimeoutNowResponse{})
		},
	} {
		if err := send(); err == nil {
			answered = append(answered, name)
		}
	}
	return answered
}

// honestElections is more than a busy machine causes during a test, and far from the terms that intruders name.
const honestElections = 1000

// undisturbed runs do, and fails if a term went far, a node left, or a write does not go through afterwards. An
// election on a busy machine is no disturbance; one that an intruder caused was answered, which its sender sees.
func undisturbed(t *testing.T, do func(), nodes ...*member) {
	t.Helper()
	terms := map[*member]uint64{}
	for _, m := range nodes {
		terms[m] = m.Status().Term
	}
	do()
	noError(t, nodes[0].write(fmt.Sprint("after ", t.Name(), time.Now())))
	for m, term := range terms {
		if s := m.Status(); s.Term > term+honestElections {
			t.Errorf("%s was in term %d and is in term %d; its leader is %q", s.Node, term, s.Term, s.Leader)
		}
		if len(m.left) > 0 {
			t.Errorf("a node left the cluster: %v", <-m.left)
		}
	}
}

// TestRemovedNodeHasNoSay removes a node and uses its certificate for all that nodes say to each other.
func TestRemovedNodeHasNoSay(t *testing.T) {
	g := newGroup(t)
	nodes := g.three()
	noError(t, nodes[2].write("x"))
	leader := leaderOf(nodes...)
	var gone *member
	var left []*member
	for _, m := range nodes {
		if m != leader && gone == nil {
			gone = m
		} else {
			left = append(left, m)
		}
	}
	id := gone.config.Credentials.Identity.ID
	gone.stop()
	status, body, err := leader.call(g.credentials(pki.Operator, "op"), http.MethodPost, "/remove?id="+id, nil)
	if err != nil || status != http.StatusOK {
		t.Fatal(status, body, err)
	}
	left[0].await("the removal to arrive", func() error {
		for _, m := range left {
			if len(m.Status().Members) != 2 {
				return errors.New("not yet")
			}
		}
		return nil
	})
	as := gone.config.Credentials
	garbage, err := cbor.Marshal([][]byte{[]byte("garbage")})
	noError(t, err)
	undisturbed(t, func() {
		for _, m := range left {
			if answered := (intruder{to: m, as: as}).send(t, id, 1<<63); len(answered) > 0 {
				t.Errorf("%s answered a removed node: %v", m.Status().Node, answered)
			}
			for _, path := range []string{"/propose", "/damaged", "/checkpoint", "/progress"} {
				status, body, err := m.call(as, http.MethodPost, path, garbage)
				if err != nil || status != http.StatusForbidden {
					t.Errorf("%s of a removed node: %d %s %v", path, status, body, err)
				}
			}
			if status, _, _ := m.call(as, http.MethodGet, "/status", nil); status != http.StatusForbidden {
				t.Errorf("/status of a removed node: %d", status)
			}
		}
	}, left...)
}

// TestMemberSpeaksForItselfOnly uses the certificate of a member to speak as another one, in terms that nobody reaches,
// and to do what only a leader may.
func TestMemberSpeaksForItselfOnly(t *testing.T) {
	g := newGroup(t)
	nodes := g.three()
	leader := leaderOf(nodes...)
	var others []*member
	for _, m := range nodes {
		if m != leader {
			others = append(others, m)
		}
	}
	bad, victim := others[0].config.Credentials, others[1]
	undisturbed(t, func() {
		for name, ask := range map[string]struct {
			id   string
			term uint64
		}{
			"as the leader":                {leader.config.Credentials.Identity.ID, leader.Status().Term},
			"as itself, in a distant term": {bad.Identity.ID, 1 << 63},
		} {
			for _, m := range []*member{leader, victim} {
				answered := (intruder{to: m, as: bad}).send(t, ask.id, ask.term)
				for _, kind := range answered {
					if kind != "RequestPreVote" || ask.term == 1<<63 { // which changes nothing
						t.Errorf("%s: %s answered %s", name, m.Status().Node, kind)
					}
				}
			}
		}
		body, err := cbor.Marshal(uint64(1))
		noError(t, err)
		status, text, err := victim.call(bad, http.MethodPost, "/damaged", body)
		if err != nil || status != http.StatusForbidden {
			t.Errorf("/damaged of a member that does not lead: %d %s %v", status, text, err)
		}
	}, nodes...)
}

// TestNodeLearnsThatItWasRemoved removes a node that runs, and one that was down then and returns with its data.
func TestNodeLearnsThatItWasRemoved(t *testing.T) {
	g := newGroup(t)
	nodes := g.three()
	fourth := g.add("n4", 0, nodes...)
	fourth.awaitReady()
	leader := leaderOf(nodes...)
	operator := g.credentials(pki.Operator, "op")
	remove := func(m *member) {
		id := m.config.Credentials.Identity.ID
		status, body, err := leaderOf(nodes...).call(operator, http.MethodPost, "/remove?id="+id, nil)
		if err != nil || status != http.StatusOK {
			t.Fatal(status, body, err)
		}
	}
	told := func(m *member) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		select {
		case err := <-m.left:
			if !errors.Is(err, cluster.ErrRemoved) {
				t.Error(err)
			}
		case <-ctx.Done():
			t.Fatalf("%s does not know that it was removed: %v", m.config.Credentials.Identity.ID, m.Ready())
		}
	}
	remove(fourth)
	told(fourth)

	down := nodes[0]
	if down == leader {
		down = nodes[1]
	}
	down.stop()
	nodes = []*member{leader, nodes[2]}
	remove(down)
	down.start()
	told(down)
}

// TestAccusedNodeAsksTheOthers has the leader say of a follower, whose state is right, that it differs.
func TestAccusedNodeAsksTheOthers(t *testing.T) {
	g := newGroup(t)
	nodes := g.three()
	leader := leaderOf(nodes...)
	victim := others(nodes, leader)[0]
	noError(t, leader.write("checkpoint"))
	report, err := leader.CompareDigests(t.Context())
	noError(t, err)
	undisturbed(t, func() {
		for _, index := range []uint64{report.Index, 1} {
			body, err := cbor.Marshal(map[int]uint64{1: index, 2: leader.Status().Term})
			noError(t, err)
			status, text, err := victim.call(leader.config.Credentials, http.MethodPost, "/damaged", body)
			if err != nil || status != http.StatusConflict {
				t.Errorf("at entry %d: %d %s %v", index, status, text, err)
			}
		}
	}, nodes...)
}
