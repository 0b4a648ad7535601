package cluster_test

import (
	"context"
	"fmt"
	"io/fs"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"coffer/fsm"
	"coffer/secret"
)

// TestStoppingBehindAFullDisk fills the memory of a node whose disk is full, so that applying waits, and stops the
// node: it ends at once, and started again with space it has what was acknowledged.
func TestStoppingBehindAFullDisk(t *testing.T) {
	g := newGroup(t)
	var full atomic.Bool
	g.disk = func() error {
		if full.Load() {
			return &fs.PathError{Op: "write", Path: fsm.File, Err: syscall.ENOSPC}
		}
		return nil
	}
	m := g.add("n1", 1)
	m.awaitReady()
	store := m.config.Store
	put := func(i int) error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		ref := fsm.Ref{Account: "123456789012", Name: fmt.Sprint("s", i), Suffix: "AAAAAA"}
		v := fsm.NewVersion{ID: "v", KeyID: "k", WrappedKey: []byte{1}, Sealed: make([]byte, secret.MaxValue)}
		_, err := m.Propose(ctx, fsm.Encode(named(ref.Name), store.Applied(),
			&fsm.CreateSecret{Ref: ref, At: 1, Version: &v}))
		return err
	}
	full.Store(true)
	done := 0
	for put(done) == nil {
		if done++; done > 1024 {
			t.Fatal("applying never waits")
		}
	}
	stopped := make(chan struct{})
	go func() {
		m.Stop()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(20 * time.Second):
		full.Store(false) // or the test would not end either
		t.Fatal("the node does not stop")
	}
	if store.Close() == nil {
		t.Error("the disk is not full")
	}
	full.Store(false)
	m.start()
	m.awaitReady()
	err := m.config.Store.View(func(tx *fsm.Tx) error {
		for i := range done {
			if tx.ByName("123456789012", fmt.Sprint("s", i)) == nil {
				t.Errorf("of %d secrets number %d is missing", done, i)
			}
		}
		return nil
	})
	noError(t, err)
}
