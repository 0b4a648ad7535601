package raftlog

import (
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/raft"
)

// ErrInterrupted says that a recovery of the log began and did not end. The node must not start from it.
var ErrInterrupted = errors.New("making this node the only voter was interrupted: run `coffer cluster recover` again")

// Recover makes the configuration, which Raft encoded, the last that a verified log knows: in an entry above all
// others, in a term above all others, for a cluster of another id. snapshot is the index of the newest snapshot, and
// termThere its term. It returns where the entry is.
//
// The term and the id are kept first, with where the entry will be: if that is all that happened, the log refuses to be
// used (ErrInterrupted) until Recover was called again, since Raft would go on as a member of what was given up.
func (l *Log) Recover(id string, configuration []byte, snapshot, termThere uint64) (index, term uint64, err error) {
	if len(id) > maxName {
		return 0, 0, fmt.Errorf("a name of %d bytes: wanted at most %d", len(id), maxName)
	}
	index, term, err = l.End(snapshot, termThere)
	if err != nil {
		return 0, 0, err
	}
	index++
	err = l.keep(func(s *survives) {
		s.Term = max(s.Term, term) + 1
		s.ClusterID, s.Promised, s.Recovered = cbor.ByteString(id), "", index
		term = s.Term
	})
	if err != nil {
		return 0, 0, err
	}
	return index, term, l.StoreLog(&raft.Log{
		Index: index, Term: term, Type: raft.LogConfiguration, Data: configuration, AppendedAt: time.Now(),
	})
}

// End returns index and term of the last entry, which is the newest snapshot's where the log has none above it.
func (l *Log) End(snapshot, termThere uint64) (index, term uint64, err error) {
	last, err := l.LastIndex()
	if err != nil || last <= snapshot {
		return snapshot, termThere, err
	}
	var entry raft.Log
	err = l.GetLog(last, &entry)
	return last, entry.Term, err
}

// Recovered is the index of the entry that [Log.Recover] appended, until [Log.EndRecovery]; 0 if there is none.
func (l *Log) Recovered() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.record.Recovered
}

// EndRecovery says that nothing is left to be done after [Log.Recover].
func (l *Log) EndRecovery() error { return l.keep(func(s *survives) { s.Recovered = 0 }) }
