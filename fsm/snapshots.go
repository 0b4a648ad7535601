package fsm

import (
	"io"

	"github.com/hashicorp/raft"
)

// Known is a snapshot, on its way in or out, of which it is known what Raft takes it for. Raft counts entries that
// the store is not given, so that is a later entry than the last that was applied; and an archive of another cluster
// gets an index of this one.
type Known interface{ Meta() *raft.SnapshotMeta }

// FromStore is a sink of a snapshot store that keeps no copies: what this node has it streams from the store itself
// ([Store.OpenSnapshot]). A snapshot of the node's own gives it no data. When its Close is called the file holds all
// that Raft takes the snapshot to hold ([Store.Durable]), which is what Raft then drops from its log; only what
// another node sends, or an operator restores, is written to it.
type FromStore interface {
	Known
	FromStore()
}

// Snapshots is a Raft snapshot store whose sinks and streams are [Known].
type Snapshots struct{ raft.SnapshotStore }

type knownSink struct {
	raft.SnapshotSink
	meta raft.SnapshotMeta
}

func (k *knownSink) Meta() *raft.SnapshotMeta { return &k.meta }

type knownStream struct {
	io.ReadCloser
	meta *raft.SnapshotMeta
}

func (k *knownStream) Meta() *raft.SnapshotMeta { return k.meta }

// Create makes a sink ([raft.SnapshotStore]).
func (s Snapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(version, index, term, configuration, configurationIndex, trans)
	if err != nil {
		return nil, err
	}
	return &knownSink{sink, raft.SnapshotMeta{Version: version, ID: sink.ID(), Index: index, Term: term,
		Configuration: configuration, ConfigurationIndex: configurationIndex}}, nil
}

// Open opens a stream ([raft.SnapshotStore]).
func (s Snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, stream, err := s.SnapshotStore.Open(id)
	if err != nil {
		return nil, nil, err
	}
	return meta, &knownStream{stream, meta}, nil
}
