package rows_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"coffer/damage"
	"coffer/rows"
)

// A store of names: byLength is derived from names, notes are the node's own.
var (
	names    = &rows.Table{Num: 1, Name: "names", Watched: true}
	byLength = &rows.Table{Num: 2, Name: "by-length"}
	notes    = &rows.Table{Num: 3, Name: "notes", Local: true}
	tables   = []*rows.Table{names, byLength, notes}
)

func init() {
	key := func(name, payload []byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(payload))), name...)
	}
	names.Derive = func(w *rows.Writer, name, old, new []byte) {
		if old != nil {
			w.Remove(byLength, key(name, old))
		}
		if new != nil {
			w.Add(byLength, key(name, new), rows.NewRow(nil))
		}
	}
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func open(t testing.TB, path string) *rows.Store {
	t.Helper()
	return openWith(t, rows.Options{Path: path})
}

func openWith(t testing.TB, o rows.Options) *rows.Store {
	t.Helper()
	o.Tables, o.Log = tables, quiet
	if o.Path == "" {
		o.Path = filepath.Join(t.TempDir(), "rows.db")
	}
	s, err := rows.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// put puts names, as the entry after the last.
func put(t testing.TB, s *rows.Store, pairs ...string) {
	t.Helper()
	if err := update(s, pairs...); err != nil {
		t.Fatal(err)
	}
}

func update(s *rows.Store, pairs ...string) error {
	return s.Update(func(w *rows.Writer) error {
		for i := 0; i < len(pairs); i += 2 {
			w.Put(names, []byte(pairs[i]), rows.NewRow([]byte(pairs[i+1])))
		}
		w.Reach(w.Position().Index+1, 1)
		return nil
	})
}

// content is everything that a transaction sees in names, both ways, after what is derived from it was checked.
func content(t testing.TB, tx *rows.Tx) map[string]string {
	t.Helper()
	got, last := map[string]string{}, ""
	for name, payload := range tx.Ascend(names, nil) {
		if string(name) <= last {
			t.Fatalf("%s comes after %s", name, last)
		}
		last = string(name)
		got[last] = string(payload)
		if one := tx.Get(names, name); !bytes.Equal(one, payload) {
			t.Fatalf("%s is %q in a walk and %q by itself", name, payload, one)
		}
	}
	down := map[string]string{}
	for name, payload := range tx.Descend(names, nil) {
		if string(name) > last {
			t.Fatalf("%s comes after %s on the way down", name, last)
		}
		last = string(name)
		down[last] = string(payload)
	}
	derived := map[string]string{}
	for key := range tx.Ascend(byLength, nil) {
		name := string(key[4:])
		if derived[name] = got[name]; len(got[name]) != int(binary.BigEndian.Uint32(key)) {
			t.Fatalf("%s has %d bytes, and %x says otherwise", name, len(got[name]), key)
		}
	}
	if fmt.Sprint(down) != fmt.Sprint(got) || fmt.Sprint(derived) != fmt.Sprint(got) {
		t.Fatalf("up %v, down %v, derived %v", got, down, derived)
	}
	return got
}

func contentOf(t testing.TB, s *rows.Store) (got map[string]string) {
	t.Helper()
	if err := s.View(func(tx *rows.Tx) error { got = content(t, tx); return nil }); err != nil {
		t.Fatal(err)
	}
	return got
}

func wantContent(t testing.TB, s *rows.Store, want map[string]string) {
	t.Helper()
	if got := contentOf(t, s); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %v, wanted %v", got, want)
	}
}

// afterPowerLoss is a store of what is in the file of another, which stays as it is.
func afterPowerLoss(t testing.TB, path string) *rows.Store {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "rows.db")
	if err := os.WriteFile(copied, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return open(t, copied)
}

var errFull = &fs.PathError{Op: "write", Path: "rows.db", Err: syscall.ENOSPC}

// fullDisk makes the store's disk full until the returned function is called.
func fullDisk(s *rows.Store) (free func()) {
	var full atomic.Bool
	full.Store(true)
	s.FailFlushes(func() error {
		if full.Load() {
			return errFull
		}
		return nil
	})
	return func() { full.Store(false) }
}

// TestAFullDiskLosesNothing lets flushes fail between changes: what reads, walks, snapshots and scrubs see meanwhile
// is all that was applied, the file claims no entry that it does not hold, and the next flush writes everything.
func TestAFullDiskLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rows.db")
	s := open(t, path)
	put(t, s, "a", "1")
	free := fullDisk(s)
	for _, name := range []string{"b", "c"} {
		if err := s.Flush(); !errors.Is(err, syscall.ENOSPC) || !errors.Is(s.Err(), syscall.ENOSPC) {
			t.Fatalf("a flush to a full disk: %v; the store says %v", err, s.Err())
		}
		put(t, s, name, "2")
	}
	want := map[string]string{"a": "1", "b": "2", "c": "2"}
	wantContent(t, s, want)
	if _, err := s.Scrub(t.Context()); err != nil {
		t.Error(err)
	}
	var archive bytes.Buffer
	if err := s.Save(&archive); err != nil {
		t.Fatal(err)
	}
	restored := open(t, filepath.Join(t.TempDir(), "rows.db"))
	if err := restored.Restore(&archive, nil, nil); err != nil {
		t.Fatal(err)
	}
	wantContent(t, restored, want)
	crashed := afterPowerLoss(t, path)
	wantContent(t, crashed, nil)
	if at, says := crashed.Position().Index, s.Durable().Index; at != 0 || says != 0 {
		t.Errorf("the file is at entry %d; the store says %d", at, says)
	}

	free()
	if err := s.Flush(); err != nil || s.Err() != nil {
		t.Fatal(err, s.Err())
	}
	crashed = afterPowerLoss(t, path)
	wantContent(t, crashed, want)
	if at, says := crashed.Position().Index, s.Durable().Index; at != 3 || says != 3 || s.Unflushed() != 0 {
		t.Errorf("the file is at entry %d; the store says %d, with %d bytes in memory", at, says, s.Unflushed())
	}
}

// TestAFailedSyncIsFinal: what a failed sync left on disk nobody knows, so the store writes and takes nothing any more.
func TestAFailedSyncIsFinal(t *testing.T) {
	var ends []error
	s := openWith(t, rows.Options{
		OnFatal:  func(err error) { ends = append(ends, err) },
		OnDamage: func(err error) { t.Error("marked as damaged:", err) },
	})
	put(t, s, "a", "1")
	writes := 0
	s.FailFlushes(func() error {
		if writes++; writes == 1 {
			return syscall.EIO // of fdatasync
		}
		return nil
	})
	for range 2 {
		if err := s.Flush(); !errors.Is(err, syscall.EIO) {
			t.Errorf("a flush whose sync failed: %v", err)
		}
	}
	if err := update(s, "b", "2"); !errors.Is(err, syscall.EIO) {
		t.Errorf("a change after it: %v", err)
	}
	if len(ends) != 1 || writes != 1 || errors.Is(ends[0], damage.Err) {
		t.Errorf("ended %v after %d writes", ends, writes)
	}
	if s.Durable().Index != 0 {
		t.Errorf("the file is said to be at entry %d", s.Durable().Index)
	}
	wantContent(t, s, map[string]string{"a": "1"})
}

// TestApplyingWaitsForRoomAndStops shows the bound on what is in memory, and that neither it nor a full disk keeps a
// node from stopping: the entry that waited is not applied, and none after it.
func TestApplyingWaitsForRoomAndStops(t *testing.T) {
	s := open(t, "")
	fullDisk(s)
	big := string(bytes.Repeat([]byte{1}, 1<<19))
	for i := range 32 {
		put(t, s, fmt.Sprint("early ", i), big)
	}
	if err := s.Flush(); err == nil {
		t.Fatal("the disk is not full")
	}
	applied := make(chan error, 1)
	go func() {
		var err error
		for i := 0; err == nil; i++ {
			err = update(s, fmt.Sprint("late ", i), big)
		}
		applied <- err
	}()
	waitFor(t, func() bool { return s.Unflushed() > rows.MaxUnflushed })
	bound := rows.MaxUnflushed + len(big) + 100
	if at := s.Unflushed(); at > bound {
		t.Errorf("%d bytes are in memory, %d are allowed", at, bound)
	}
	reached := s.Position().Index
	s.StopApplying()
	if err := <-applied; !errors.Is(err, rows.ErrStopping) {
		t.Errorf("the change that waited: %v", err)
	}
	if err := update(s, "after", "1"); !errors.Is(err, rows.ErrStopping) || s.Position().Index != reached {
		t.Errorf("a change after it: %v, at entry %d of %d", err, s.Position().Index, reached)
	}
	contentOf(t, s) // reads go on
	if err := s.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("closing: %v", err)
	}
	if err := s.View(func(*rows.Tx) error { return nil }); !errors.Is(err, rows.ErrClosed) {
		t.Errorf("a read of a closed store: %v", err)
	}
}

// TestRestoreWaitsForNoReader keeps a snapshot and a read open over a restore: they go on with the state that they
// began with, new reads see the restored one, and changes go on.
func TestRestoreWaitsForNoReader(t *testing.T) {
	var changes []rows.Changes
	s := openWith(t, rows.Options{Changed: func(c rows.Changes) { changes = append(changes, c) }})
	put(t, s, "old", "1")
	var archive bytes.Buffer
	if err := s.Save(&archive); err != nil {
		t.Fatal(err)
	}
	put(t, s, "new", "2")
	slow, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	begin := make([]byte, 10)
	if _, err := io.ReadFull(slow, begin); err != nil {
		t.Fatal(err)
	}
	var during map[string]string
	err = s.View(func(tx *rows.Tx) error {
		if err := s.Restore(&archive, nil, nil); err != nil {
			return err
		}
		wantContent(t, s, map[string]string{"old": "1"})
		put(t, s, "newest", "3")
		during = content(t, tx)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"old": "1", "new": "2"}; fmt.Sprint(during) != fmt.Sprint(want) {
		t.Errorf("the read that began before sees %v", during)
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(slow)
	if err != nil {
		t.Fatal(err)
	}
	other := open(t, "")
	if err := other.Restore(bytes.NewReader(append(begin, rest...)), nil, nil); err != nil {
		t.Fatal(err)
	}
	wantContent(t, other, map[string]string{"old": "1", "new": "2"})
	wantContent(t, s, map[string]string{"old": "1", "newest": "3"})
	first := rows.Key{Table: names, Key: "old"}
	if len(changes) != 4 || changes[0].All || changes[0].Set[0] != first || !changes[2].All {
		t.Errorf("told of %v", changes)
	}
}

// TestRestoredAsRaftKnowsIt: Raft counts entries that the store is not given, so a snapshot can stand for a later
// entry.
func TestRestoredAsRaftKnowsIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rows.db")
	s := open(t, path)
	put(t, s, "a", "1")
	var archive bytes.Buffer
	if err := s.Save(&archive); err != nil {
		t.Fatal(err)
	}
	as := func(p *rows.Position) {
		p.Through, p.ThroughTerm, p.ConfigurationIndex, p.Configuration = 9, 3, 7, []byte("three nodes")
	}
	if err := s.Restore(&archive, nil, as); err != nil {
		t.Fatal(err)
	}
	for _, at := range []rows.Position{s.Position(), s.Durable(), afterPowerLoss(t, path).Position()} {
		if at.Index != 1 || at.Term != 1 || at.Through != 9 || at.ThroughTerm != 3 || at.ConfigurationIndex != 7 ||
			string(at.Configuration) != "three nodes" {
			t.Errorf("the position is %+v", at)
		}
	}
}

// TestNothingOfAFailedBatchStays lets batches fail, panic and contradict themselves: nothing of them stays, no lock
// is left held, and none of it counts as damage.
func TestNothingOfAFailedBatchStays(t *testing.T) {
	s := openWith(t, rows.Options{OnDamage: func(err error) { t.Error("marked as damaged:", err) }})
	put(t, s, "a", "1")
	before := s.Position()
	mistake := errors.New("a mistake")
	for name, do := range map[string]func(*rows.Writer) error{
		"fails":       func(*rows.Writer) error { return mistake },
		"panics":      func(*rows.Writer) error { panic(mistake) },
		"contradicts": func(w *rows.Writer) error { w.Remove(names, []byte("nobody")); return nil },
		"writes what no snapshot can hold": func(w *rows.Writer) error {
			w.Put(names, []byte("big"), rows.NewRow(make([]byte, 1<<20)))
			return nil
		},
	} {
		err := func() (err error) {
			defer func() {
				if p := recover(); p != nil {
					err = p.(error)
				}
			}()
			return s.Update(func(w *rows.Writer) error {
				w.Put(names, []byte("b"), rows.NewRow([]byte("2")))
				w.Reach(99, 1)
				return do(w)
			})
		}()
		if !errors.Is(err, mistake) && !errors.Is(err, rows.ErrContradiction) && !errors.Is(err, rows.ErrTooLarge) {
			t.Errorf("a batch that %s: %v", name, err)
		}
	}
	wantContent(t, s, map[string]string{"a": "1"})
	if s.Position().Index != before.Index || s.Position().Digest != before.Digest || s.Err() != nil {
		t.Errorf("the position is %+v, it was %+v; %v", s.Position(), before, s.Err())
	}
	if _, err := s.Scrub(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestAPanicOfAReaderIsTheReaders: it is no damage, and leaves nothing held.
func TestAPanicOfAReaderIsTheReaders(t *testing.T) {
	s := openWith(t, rows.Options{OnDamage: func(err error) { t.Error("marked as damaged:", err) }})
	put(t, s, "a", "1")
	for range 3 {
		var none *struct{ n int }
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic did not go on")
				}
			}()
			_ = s.View(func(*rows.Tx) error { none.n++; return nil })
		}()
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestAFileIsCompactedWhenItIsOpened fills a file and empties it again.
func TestAFileIsCompactedWhenItIsOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rows.db")
	s := open(t, path)
	size := func() int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	fill := func(remove bool) {
		err := s.Update(func(w *rows.Writer) error {
			for i := range 144 {
				if key := fmt.Append(nil, i); remove {
					w.Remove(names, key)
				} else {
					w.Put(names, key, rows.NewRow(make([]byte, 1<<19)))
				}
			}
			w.Reach(w.Position().Index+1, 1)
			return nil
		})
		if err := errors.Join(err, s.Flush()); err != nil {
			t.Fatal(err)
		}
	}
	fill(false)
	put(t, s, "kept", "1")
	fill(true)
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	if free := s.FreeBytes(); free < 64<<20 || size() < 64<<20 {
		t.Fatalf("%d of %d bytes are free", free, size())
	}
	at := s.Position()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	if size() > 4<<20 || s.Position().Index != at.Index {
		t.Errorf("the file has %d bytes at entry %d", size(), s.Position().Index)
	}
	wantContent(t, s, map[string]string{"kept": "1"})
	put(t, s, "more", "2")
	if _, err := s.Scrub(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestARestoreHoldsLittleInMemory restores few rows that are large: what one transaction holds is bounded by bytes.
func TestARestoreHoldsLittleInMemory(t *testing.T) {
	s := open(t, "")
	const count, size = 100, 1 << 19
	var pairs []string
	for i := range count {
		pairs = append(pairs, fmt.Sprint(i), string(make([]byte, size)))
	}
	put(t, s, pairs...)
	var archive bytes.Buffer
	if err := s.Save(&archive); err != nil {
		t.Fatal(err)
	}
	other := open(t, "")
	if err := other.Restore(&archive, nil, nil); err != nil {
		t.Fatal(err)
	}
	const bound = 5 << 20
	if least := count * size / bound; other.Commits() < least {
		t.Errorf("%d transactions restored %d bytes: one holds more than %d", other.Commits(), count*size, bound)
	}
	if _, err := other.Scrub(t.Context()); err != nil {
		t.Error(err)
	}
}
