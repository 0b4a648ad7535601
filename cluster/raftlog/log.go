// Package raftlog is the Raft log of a node: its entries, each with a checksum.
package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"coffer/damage"
	"coffer/durable"
)

// File is the name of the Raft log in a data directory.
const File = "raft.db"

// Log is the Raft log with a checksum on every entry, which raft-boltdb does not have: it is
// written into the entry's Extensions, which Raft itself leaves alone, and verified by every read.
type Log struct {
	*raftboltdb.BoltStore
	onDamage func(error)
}

// Open opens or creates the log in directory dir. onDamage is called with what is damaged.
func Open(dir string, onDamage func(error)) (*Log, error) {
	path := filepath.Join(dir, File)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		temp := path + ".new"
		if err := os.RemoveAll(temp); err != nil {
			return nil, err
		}
		store, err := openBolt(temp)
		if err != nil {
			return nil, err
		}
		if err := store.Close(); err != nil { // bbolt has synced every transaction
			return nil, err
		}
		if err := durable.Install(temp, path); err != nil {
			return nil, err
		}
	}
	store, err := openBolt(path)
	if err != nil {
		return nil, fmt.Errorf("open the Raft log: %w", err)
	}
	return &Log{store, onDamage}, nil
}

func openBolt(path string) (*raftboltdb.BoltStore, error) {
	return raftboltdb.New(raftboltdb.Options{
		Path: path,
		BoltOptions: &bbolt.Options{
			Timeout: time.Second, FreelistType: bbolt.FreelistMapType, NoFreelistSync: true,
		},
		MsgpackUseNewTimeFormat: true,
	})
}

func sumEntry(l *raft.Log) uint64 {
	var d xxhash.Digest
	d.Reset()
	var head [17]byte
	binary.BigEndian.PutUint64(head[:], l.Index)
	binary.BigEndian.PutUint64(head[8:], l.Term)
	head[16] = byte(l.Type)
	_, _ = d.Write(head[:])
	_, _ = d.Write(l.Data)
	return d.Sum64()
}

// StoreLog is [Log.StoreLogs] of one entry.
func (c *Log) StoreLog(l *raft.Log) error { return c.StoreLogs([]*raft.Log{l}) }

// StoreLogs writes entries, synced.
func (c *Log) StoreLogs(logs []*raft.Log) error {
	sealed := make([]*raft.Log, len(logs))
	for i, l := range logs {
		copied := *l
		copied.Extensions = binary.BigEndian.AppendUint64(nil, sumEntry(l))
		sealed[i] = &copied
	}
	return c.BoltStore.StoreLogs(sealed)
}

// GetLog reads the entry at index. One that is not what was written fails with [damage.Err].
func (c *Log) GetLog(index uint64, l *raft.Log) error {
	if err := c.BoltStore.GetLog(index, l); err != nil {
		if !errors.Is(err, raft.ErrLogNotFound) {
			err = fmt.Errorf("%w: Raft log entry %d can't be read: %w", damage.Err, index, err)
			c.onDamage(err)
		}
		return err
	}
	if len(l.Extensions) != 8 || l.Index != index || binary.BigEndian.Uint64(l.Extensions) != sumEntry(l) {
		err := fmt.Errorf("%w: Raft log entry %d does not match its checksum", damage.Err, index)
		c.onDamage(err)
		return err
	}
	l.Extensions = nil
	return nil
}
