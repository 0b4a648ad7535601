package node

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"coffer/kms/rootkey"
)

// gossipKeys are the keys in a file, one a line, read again when it changes. The first is the one to encrypt with. What
// can't be read leaves the old ones in use.
type gossipKeys struct {
	file string

	mu      sync.Mutex // guards below
	keys    [][]byte
	changed time.Time
	log     *slog.Logger // nil before the node has one
}

func openGossipKeys(file string) (*gossipKeys, error) {
	k := &gossipKeys{file: file, changed: modified(file)}
	var err error
	k.keys, err = readGossipKeys(file)
	return k, err
}

// maxGossipKeys bounds the keys of a pool: a rotation needs two, and every message may be tried with each.
const maxGossipKeys = 4

func readGossipKeys(file string) (keys [][]byte, err error) {
	raw, err := rootkey.ReadPrivate(file)
	if err != nil {
		return nil, fmt.Errorf("gossip key: %w", err)
	}
	for line := range bytes.Lines(raw) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if len(line) < 32 {
			return nil, fmt.Errorf("the gossip key file %s has a line of %d bytes: wanted at least 32, as `coffer keygen "+
				"gossip-key`"+
				" writes them", file, len(line))
		}
		keys = append(keys, line)
	}
	if len(keys) == 0 || len(keys) > maxGossipKeys {
		return nil, fmt.Errorf("the gossip key file %s holds %d keys: wanted 1 to %d, one a line",
			file, len(keys), maxGossipKeys)
	}
	return keys, nil
}

func modified(file string) time.Time {
	info, err := os.Stat(file)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// get returns the keys as they are now.
func (k *gossipKeys) get() [][]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	changed := modified(k.file)
	if changed.Equal(k.changed) {
		return k.keys
	}
	k.changed = changed
	keys, err := readGossipKeys(k.file)
	if err != nil {
		if k.log != nil {
			k.log.Error("the gossip keys can't be read again; the old ones stay", "error", err)
		}
		return k.keys
	}
	k.keys = keys
	return keys
}

// logTo makes k tell of what it can't read.
func (k *gossipKeys) logTo(log *slog.Logger) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.log = log
}

// logTo makes files that are read again tell of what they can't read.
func (s *secrets) logTo(log *slog.Logger) {
	s.peer.LogTo(log)
	s.gossipKeys.logTo(log)
	if s.regionGossipKeys != nil {
		s.regionGossipKeys.logTo(log)
	}
}

// regionGossip returns the keys of the pool of all regions; nil for a region alone.
func (s *secrets) regionGossip() func() [][]byte {
	if s.regionGossipKeys == nil {
		return nil
	}
	return s.regionGossipKeys.get
}
