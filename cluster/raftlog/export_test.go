package raftlog

import "github.com/hashicorp/raft"

// Between puts a store between the log and its file.
func (l *Log) Between(wrap func(raft.LogStore) raft.LogStore) {
	l.bolt = struct {
		raft.LogStore
		closer
	}{wrap(l.bolt), l.bolt}
}

type closer interface{ Close() error }
