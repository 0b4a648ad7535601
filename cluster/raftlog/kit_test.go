package raftlog_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"coffer/cluster/raftlog"
)

// told counts what a log told.
type told struct{ damage, fatal, hung atomic.Int32 }

func (c *told) options() raftlog.Options {
	return raftlog.Options{
		Log:      slog.New(slog.DiscardHandler),
		OnDamage: func(error) { c.damage.Add(1) },
		OnFatal:  func(error) { c.fatal.Add(1) },
		OnHung:   func(error) { c.hung.Add(1) },
	}
}

func open(t testing.TB, dir string, c *told) *raftlog.Log {
	t.Helper()
	l, err := raftlog.Open(dir, c.options())
	noError(t, err)
	return l
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// entry is the one that the tests write at an index.
func entry(index uint64) *raft.Log {
	size := 40 + int(index%7)*90
	if index%50 == 0 {
		size = 9_000 // a page that goes on
	}
	return &raft.Log{
		Index: index, Term: 1 + index/100, Type: raft.LogType(index % 2),
		Data: bytes.Repeat([]byte{byte(index), 7}, size/2), AppendedAt: time.Unix(0, int64(index)<<40).UTC(),
	}
}

func store(t testing.TB, l *raftlog.Log, from, to uint64) {
	t.Helper()
	for index := from; index <= to; index += 3 {
		var batch []*raft.Log
		for i := index; i < min(index+3, to+1); i++ {
			batch = append(batch, entry(i))
		}
		noError(t, l.StoreLogs(batch))
	}
}

// same says what of the log is not as it was written, from an index to another.
func same(l *raftlog.Log, from, to uint64) error {
	if got, err := l.FirstIndex(); err != nil || got != from {
		return fmt.Errorf("the first entry is %d, wanted %d (%w)", got, from, err)
	}
	if got, err := l.LastIndex(); err != nil || got != to {
		return fmt.Errorf("the last entry is %d, wanted %d (%w)", got, to, err)
	}
	for i := from; i <= to && i > 0; i++ {
		var got raft.Log
		if err := l.GetLog(i, &got); err != nil {
			return err
		}
		want := entry(i)
		if got.Term != want.Term || got.Type != want.Type || !bytes.Equal(got.Data, want.Data) || len(got.Extensions) > 0 ||
			!got.AppendedAt.Equal(want.AppendedAt) {
			return fmt.Errorf("entry %d is another than was written", i)
		}
	}
	return nil
}

// files are the contents of a directory.
type files map[string][]byte

func read(t testing.TB, dir string) files {
	t.Helper()
	f := files{}
	for _, name := range []string{raftlog.File, raftlog.StateFile} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		noError(t, err)
		f[name] = b
	}
	return f
}

// written is a new directory with the files, but for those named.
func (f files) written(t testing.TB, dir string, without ...string) string {
	t.Helper()
	for name, b := range f {
		noError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	for _, name := range without {
		noError(t, os.Remove(filepath.Join(dir, name)))
	}
	return dir
}
