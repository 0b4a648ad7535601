package rows_test

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"coffer/rows"
)

func waitFor(t testing.TB, what func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !what(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
	}
}

// TestAStoreIsAMap compares a store with a map, through flushes, failed flushes, restarts, snapshots and restores.
func TestAStoreIsAMap(t *testing.T) {
	dir := t.TempDir()
	runs := 0
	rapid.Check(t, func(r *rapid.T) {
		runs++
		m := &model{t: t, path: filepath.Join(dir, fmt.Sprint(runs)), want: map[string]string{}}
		m.s = open(t, m.path)
		defer func() { _ = m.s.Close() }()
		r.Repeat(map[string]func(*rapid.T){
			"batch": func(r *rapid.T) { m.batch(r) },
			"flush": func(r *rapid.T) {
				fail := rapid.Bool().Draw(r, "the disk is full")
				m.s.FailFlushes(func() error {
					if fail {
						return errFull
					}
					return nil
				})
				if err := m.s.Flush(); err != nil && !fail {
					r.Fatal(err)
				}
			},
			"walk": func(r *rapid.T) { m.walk(r) },
			"restart": func(r *rapid.T) {
				m.s.FailFlushes(func() error { return nil })
				if err := m.s.Close(); err != nil {
					r.Fatal(err)
				}
				m.s = open(t, m.path)
			},
			"save": func(r *rapid.T) {
				n, err := m.s.Snapshot()
				if err != nil {
					r.Fatal(err)
				}
				defer n.Close()
				m.archive, err = io.ReadAll(n)
				if err != nil || int64(len(m.archive)) != n.Size() {
					r.Fatalf("a snapshot of %d bytes was said to have %d: %v", len(m.archive), n.Size(), err)
				}
				m.archived = maps.Clone(m.want)
			},
			"restore": func(r *rapid.T) {
				if m.archive == nil {
					return
				}
				if err := m.s.Restore(bytes.NewReader(m.archive), nil, nil); err != nil {
					r.Fatal(err)
				}
				m.want = maps.Clone(m.archived)
			},
			"": func(r *rapid.T) {
				wantContent(t, m.s, m.want)
				if _, err := m.s.Scrub(t.Context()); err != nil {
					r.Fatal(err)
				}
			},
		})
	})
}

type model struct {
	t        *testing.T
	path     string
	s        *rows.Store
	want     map[string]string
	archive  []byte
	archived map[string]string
}

var someName = rapid.StringMatching("[a-d]{1,2}")

func (m *model) batch(r *rapid.T) {
	want := maps.Clone(m.want)
	failed := fmt.Errorf("this one fails")
	fails := rapid.IntRange(0, 4).Draw(r, "fails") == 0
	err := m.s.Update(func(w *rows.Writer) error {
		for range rapid.IntRange(1, 4).Draw(r, "changes") {
			before := maps.Clone(want)
			part := rapid.IntRange(0, 3).Draw(r, "a part that fails") == 0
			_ = w.Atomically(func() error {
				name := someName.Draw(r, "name")
				if rapid.Bool().Draw(r, "remove") {
					w.Discard(names, []byte(name))
					delete(want, name)
				} else {
					want[name] = rapid.StringN(0, 5, 200).Draw(r, "payload")
					w.Put(names, []byte(name), rows.NewRow([]byte(want[name])))
				}
				if part {
					want = before
					return failed
				}
				return nil
			})
			if got := content(m.t, w.Tx); fmt.Sprint(got) != fmt.Sprint(want) {
				r.Fatalf("a batch sees %v of its own, wanted %v", got, want)
			}
		}
		w.Put(notes, []byte("note"), rows.NewRow([]byte("not replicated")))
		w.Reach(w.Position().Index+1, 1)
		if fails {
			return failed
		}
		return nil
	})
	if (err != nil) != fails {
		r.Fatal(err)
	}
	if !fails {
		m.want = want
	}
}

// walk compares walks from anywhere.
func (m *model) walk(r *rapid.T) {
	bound := someName.Draw(r, "from or below")
	var up, down, wantUp, wantDown []string
	for _, name := range slices.Sorted(maps.Keys(m.want)) {
		if name >= bound {
			wantUp = append(wantUp, name)
		} else {
			wantDown = append(wantDown, name)
		}
	}
	slices.Reverse(wantDown)
	err := m.s.View(func(tx *rows.Tx) error {
		for name := range tx.Ascend(names, []byte(bound)) {
			up = append(up, string(name))
		}
		for name := range tx.Descend(names, []byte(bound)) {
			down = append(down, string(name))
		}
		return nil
	})
	if err != nil || !slices.Equal(up, wantUp) || !slices.Equal(down, wantDown) {
		r.Fatalf("%v: from %s up %v, wanted %v; below it down %v, wanted %v", err, bound, up, wantUp, down, wantDown)
	}
}

// TestReadersSeeOneState reads while batches, flushes and restores go on: each batch changes all names alike, so that a
// reader that sees two states at once sees names that differ.
func TestReadersSeeOneState(t *testing.T) {
	s := open(t, "")
	all := []string{"a", "b", "c", "d", "e"}
	set := func(round int) error {
		var pairs []string
		for _, name := range all {
			pairs = append(pairs, name, fmt.Sprint(round))
		}
		return update(s, pairs...)
	}
	if err := set(0); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				err := s.View(func(tx *rows.Tx) error {
					first := string(tx.Get(names, []byte("a")))
					for name, payload := range tx.Ascend(names, nil) {
						if string(payload) != first || string(tx.Get(names, name)) != first {
							return fmt.Errorf("%s is of round %s, others of %s", name, payload, first)
						}
					}
					return nil
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var archive bytes.Buffer
	for round := range 300 {
		if err := set(round); err != nil {
			t.Fatal(err)
		}
		if round%3 == 0 {
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		if round%50 == 10 {
			archive.Reset()
			if err := s.Save(&archive); err != nil {
				t.Fatal(err)
			}
		}
		if round%50 == 30 {
			if err := s.Restore(&archive, nil, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(stop)
	readers.Wait()
}

// TestAFileThatIsAheadIsNotRead begins reads on a picture after the state has gone on: what a flush wrote that began
// later must not be mixed with it.
func TestAFileThatIsAheadIsNotRead(t *testing.T) {
	s := open(t, "")
	put(t, s, "a", "1", "b", "1")
	for name, c := range map[string]struct {
		do   func()
		read bool
	}{
		"nothing":            {func() {}, true},
		"a batch":            {func() { put(t, s, "a", "1", "b", "1") }, true},
		"a batch, flushed":   {func() { put(t, s, "b", "2"); flush(t, s); put(t, s, "b", "1") }, false},
		"flushed twice":      {func() { flush(t, s); put(t, s, "b", "1"); flush(t, s) }, false},
		"a flush that fails": {func() { put(t, s, "b", "1"); free := fullDisk(s); _ = s.Flush(); free() }, false},
	} {
		read := s.ReadAcross(c.do, func(tx *rows.Tx) {
			if got := content(t, tx); fmt.Sprint(got) != fmt.Sprint(map[string]string{"a": "1", "b": "1"}) {
				t.Errorf("%s: %v", name, got)
			}
		})
		if read != c.read {
			t.Errorf("%s: read is %v", name, read)
		}
	}
}

func flush(t testing.TB, s *rows.Store) {
	t.Helper()
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
}
