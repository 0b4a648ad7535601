package cluster_test

import (
	"bytes"
	"io"
	"log/slog"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"coffer/fsm"
)

// TestInspectingMarksAStateThatWasSent ends a node when a snapshot of a restore has arrived and is not marked yet, and
// looks at it with what `coffer cluster recover --inspect` does: the state that this takes over is in doubt at the next
// start, as it would have been without.
func TestInspectingMarksAStateThatWasSent(t *testing.T) {
	nodes := newGroup(t).three()
	n := others(nodes, leaderOf(nodes...))[0]
	noError(t, nodes[0].write("acknowledged"))
	n.stop()

	const index = 100_000 // of a cluster that had come further
	s, err := fsm.Open(t.TempDir(), fsm.Options{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	noError(t, err)
	defer s.Close()
	entry := fsm.EncodeEntry([][]byte{fsm.Encode(named("checkpoint"), 0, &fsm.Checkpoint{})})
	s.ApplyBatch([]*raft.Log{{Index: index, Term: 1, Type: raft.LogCommand, Data: entry}})
	var archive bytes.Buffer
	noError(t, s.Save(&archive))

	files, err := raft.NewFileSnapshotStoreWithLogger(n.dir, 1, hclog.NewNullLogger())
	noError(t, err)
	_, transport := raft.NewInmemTransport("")
	servers := raft.Configuration{}
	for _, m := range nodes {
		servers.Servers = append(servers.Servers, raft.Server{
			ID: raft.ServerID(m.id()), Address: raft.ServerAddress(m.id())})
	}
	sink, err := files.Create(raft.SnapshotVersionMax, index+1, 2, servers, 1, transport)
	noError(t, err)
	_, err = io.Copy(sink, &archive)
	noError(t, err)
	noError(t, sink.Close())

	survivor := n.survivor()
	taken := survivor.Remains().Index
	noError(t, survivor.Close())
	if taken <= index || !n.marked() {
		t.Errorf("the state of entry %d that was sent: has %d, marked %v", index, taken, n.marked())
	}
}
