package raftlog

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// The keys under which Raft keeps its term and vote.
const (
	keyTerm     = "CurrentTerm"
	keyVoteTerm = "LastVoteTerm"
	keyVote     = "LastVoteCand"
)

// maxName bounds the names that are kept: of the candidate, the cluster, the beginner.
const maxName = 1024

// GetUint64 returns the number that Raft keeps under key, 0 if it has not kept one yet.
func (l *Log) GetUint64(key []byte) (n uint64, err error) {
	err = l.guard.read(func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		switch string(key) {
		case keyTerm:
			n = l.record.Term
		case keyVoteTerm:
			n = l.record.VoteTerm
		default:
			return fmt.Errorf("nothing is kept under the key %q", key)
		}
		return nil
	})
	return n, err
}

// SetUint64 keeps a number of Raft's under key, synced.
func (l *Log) SetUint64(key []byte, n uint64) error {
	switch string(key) {
	case keyTerm:
		return l.keep(func(s *survives) { s.Term = n })
	case keyVoteTerm:
		return l.keep(func(s *survives) { s.VoteTerm = n })
	}
	return fmt.Errorf("the key %q can't be kept", key)
}

// Get returns what Raft keeps under key, nil if it has not kept anything yet.
func (l *Log) Get(key []byte) (v []byte, err error) {
	err = l.guard.read(func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if string(key) != keyVote {
			return fmt.Errorf("nothing is kept under the key %q", key)
		}
		v = append(v, l.record.Vote...) // nil if there is none, by which Raft tells
		return nil
	})
	return v, err
}

// Set keeps what Raft has under key, synced.
func (l *Log) Set(key, v []byte) error {
	switch {
	case string(key) != keyVote:
		return fmt.Errorf("the key %q can't be kept", key)
	case len(v) > maxName: // it comes from the candidate
		return fmt.Errorf("a candidate's name of %d bytes: wanted at most %d", len(v), maxName)
	}
	return l.keep(func(s *survives) { s.Vote = cbor.ByteString(v) })
}

// ClusterID is the id of the cluster that this node is of, empty before it is of one.
func (l *Log) ClusterID() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.record.ClusterID)
}

// SetClusterID keeps the id of the cluster that this node is of, synced; at most 1024 bytes.
func (l *Log) SetClusterID(id string) error {
	return l.keepName(id, func(s *survives) { s.ClusterID = cbor.ByteString(id) })
}

// Promised is the beginner that this node, while it was fresh, promised to wait for; empty if none.
func (l *Log) Promised() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.record.Promised)
}

// SetPromised keeps the beginner that this node promised to wait for, synced; at most 1024 bytes.
func (l *Log) SetPromised(id string) error {
	return l.keepName(id, func(s *survives) { s.Promised = cbor.ByteString(id) })
}

func (l *Log) keepName(name string, change func(*survives)) error {
	if len(name) > maxName {
		return fmt.Errorf("a name of %d bytes: wanted at most %d", len(name), maxName)
	}
	return l.keep(change)
}

// keep changes what survives, synced; what changes nothing is not written.
func (l *Log) keep(change func(*survives)) error {
	return l.guard.write(false, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		next := l.record.survives
		change(&next)
		if next == l.record.survives {
			return nil
		}
		next.Last = max(next.Last, l.reached)
		return l.record.keep(next)
	})
}
