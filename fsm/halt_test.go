package fsm_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"coffer/fsm"
)

func openWith(t testing.TB, dir string, o fsm.Options) *fsm.Store {
	t.Helper()
	o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	if o.OnDamage == nil {
		o.OnDamage = func(err error) { t.Error("marked as damaged:", err) }
	}
	s, err := fsm.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func entry(index uint64, commands ...[]byte) *raft.Log {
	return &raft.Log{Index: index, Term: 1, Type: raft.LogCommand, Data: fsm.EncodeEntry(commands)}
}

func creates(name string) []byte {
	ref := fsm.Ref{Account: account, Name: name, Suffix: "AAAAAA"}
	return fsm.Encode(named(name), 0, &fsm.CreateSecret{Ref: ref, At: 1})
}

func exists(t testing.TB, s *fsm.Store, name string) (there bool) {
	t.Helper()
	err := s.View(func(tx *fsm.Tx) error {
		there = tx.ByName(account, name) != nil
		return nil
	})
	if err != nil {
		t.Fatal("reads must go on:", err)
	}
	return there
}

// TestAnEntryThatCantBeAppliedStopsApplyingOnly gives stores entries that are what was proposed and can't be applied:
// nothing is marked as damaged, what comes before is applied and answered, nothing of the entry and of what follows
// is, reads go on, no snapshot lets Raft drop the entry, and a restart comes to the same.
func TestAnEntryThatCantBeAppliedStopsApplyingOnly(t *testing.T) {
	defer fsm.WithMistakes()()
	otherVersion := fsm.EncodeEntry([][]byte{creates("of another version")})
	otherVersion[0]++
	behind := func(command []byte) []byte { return fsm.EncodeEntry([][]byte{creates("poison"), command}) }
	for name, data := range map[string][]byte{
		"bytes that are no command":       behind([]byte("garbage")),
		"a command of a newer version":    behind([]byte{0xa3, 1, 0x41, 0, 2, 0x19, 0x03, 0xe7, 3, 0xa0}), // kind 999
		"a command with another body":     behind([]byte{0xa3, 1, 0x41, 0, 2, 2, 3, 0x81, 1}),
		"an entry of a newer version":     otherVersion,
		"a mistake in applying":           behind(fsm.EncodeMistakes(&fsm.Panicking{Key: "written"})),
		"a state that contradicts itself": behind(fsm.EncodeMistakes(&fsm.Contradicting{})),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := openWith(t, dir, fsm.Options{})
			apply(t, s, 1, initCommand())
			poison := &raft.Log{Index: 3, Term: 1, Type: raft.LogCommand, Data: data}
			logs := []*raft.Log{entry(2, creates("before")), poison, entry(4, creates("after"))}
			answers := s.ApplyBatch(logs)
			if got, ok := answers[0].([]fsm.Outcome); !ok || got[0].Err() != nil {
				t.Errorf("the entry before it: %v", answers[0])
			}
			sum, err := fsm.EntrySum(data)
			if err != nil {
				t.Fatal(err)
			}
			advice := fmt.Sprintf("--skip-entry 3:%016x", sum)
			check := func(s *fsm.Store, answers []any) {
				t.Helper()
				for _, answer := range answers {
					if err, ok := answer.(error); !ok || !errors.Is(err, fsm.ErrHalted) || !strings.Contains(err.Error(), advice) {
						t.Errorf("answered %v", answer)
					}
				}
				if err := s.Halted(); !errors.Is(err, fsm.ErrHalted) || s.Err() == nil {
					t.Errorf("halted: %v, in general: %v", err, s.Err())
				}
				if s.Applied() != 2 || !exists(t, s, "before") || exists(t, s, "poison") || exists(t, s, "after") {
					t.Errorf("applied up to %d", s.Applied())
				}
				if _, err := s.Snapshot(); !errors.Is(err, fsm.ErrHalted) {
					t.Errorf("a snapshot for Raft: %v", err)
				}
				if err := s.WaitApplied(t.Context(), 3); !errors.Is(err, fsm.ErrHalted) {
					t.Errorf("waiting for it: %v", err)
				}
			}
			check(s, answers[1:])
			check(s, s.ApplyBatch(logs[2:]))
			if _, err := s.Scrub(t.Context()); err != nil {
				t.Error(err)
			}
			var archive bytes.Buffer
			if err := s.Save(&archive); err != nil {
				t.Error(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = openWith(t, dir, fsm.Options{})
			check(s, s.ApplyBatch(logs[1:]))

			// A snapshot of nodes that could apply it takes this one past it.
			ahead := openWith(t, t.TempDir(), fsm.Options{Skip: map[uint64]uint64{3: sum}})
			apply(t, ahead, 1, initCommand())
			ahead.ApplyBatch(logs)
			noError(t, ahead.GoOn(logOf(logs)))
			archive.Reset()
			if err := errors.Join(ahead.Save(&archive), s.Restore(io.NopCloser(&archive))); err != nil {
				t.Fatal(err)
			}
			if s.Halted() != nil || s.Applied() != 4 || !exists(t, s, "after") {
				t.Errorf("after a restore: %v at %d", s.Halted(), s.Applied())
			}
			apply(t, s, 5, &fsm.Checkpoint{})
		})
	}
}

// TestAPanicOfAnEntryTellsNoValue has the applying of an entry panic with what the entry holds: neither the log, nor
// what the store says of it to operators, status and clients, has it. The log says where it happened.
func TestAPanicOfAnEntryTellsNoValue(t *testing.T) {
	defer fsm.WithMistakes()()
	const value = "correct horse battery staple"
	var log bytes.Buffer
	s, err := fsm.Open(t.TempDir(), fsm.Options{
		Log: slog.New(slog.NewJSONHandler(&log, nil)), OnDamage: func(err error) { t.Error("marked as damaged:", err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	apply(t, s, 1, initCommand())
	answer := s.Apply(entry(2, fsm.EncodeMistakes(&fsm.Telling{Value: value})))
	said := fmt.Sprint(answer, s.Halted(), s.Err(), s.WaitApplied(t.Context(), 2))
	if !errors.Is(s.Halted(), fsm.ErrHalted) || !strings.Contains(log.String(), "export_test.go") {
		t.Errorf("halted: %v; the log: %s", s.Halted(), log.String())
	}
	for what, text := range map[string]string{"log": log.String(), "store": said} {
		if strings.Contains(text, "horse") {
			t.Errorf("the %s tells the value: %s", what, text)
		}
	}
}

// TestASkippedEntryLeavesATrace: an entry is skipped by its index and checksum only, is answered with an error, and
// the state tells nodes that skipped it from those that applied it.
func TestASkippedEntryLeavesATrace(t *testing.T) {
	given := entry(2, creates("given up"))
	sum, err := fsm.EntrySum(given.Data)
	if err != nil {
		t.Fatal(err)
	}
	digests := map[string]uint64{}
	for name, skip := range map[string]map[uint64]uint64{
		"skipped": {2: sum}, "skipped too": {2: sum, 7: 1}, "another entry there": {2: sum + 1}, "another place": {3: sum},
	} {
		s := openWith(t, t.TempDir(), fsm.Options{Skip: skip})
		apply(t, s, 1, initCommand())
		answer := s.Apply(given)
		_, failed := answer.(error)
		skipped := strings.HasPrefix(name, "skipped")
		if failed != skipped || exists(t, s, "given up") == skipped || s.Applied() != 2 || (s.Halted() != nil) != skipped {
			t.Errorf("%s: answered %v at %d", name, answer, s.Applied())
		}
		noError(t, s.GoOn(nil))
		apply(t, s, 3, &fsm.DeleteNow{Ref: fsm.Ref{Account: account, Name: "given up", Suffix: "AAAAAA"}})
		_, digests[name] = s.Digest()
		if _, err := s.Scrub(t.Context()); err != nil {
			t.Error(err)
		}
	}
	skipped, not := digests["skipped"], digests["another place"]
	if skipped == not || skipped != digests["skipped too"] || not != digests["another entry there"] {
		t.Errorf("digests %x", digests)
	}
}

// logOf is a log that has these entries only.
type logOf []*raft.Log

func (l logOf) GetLog(index uint64, into *raft.Log) error {
	for _, entry := range l {
		if entry.Index == index {
			*into = *entry
			return nil
		}
	}
	return raft.ErrLogNotFound
}

// TestASkippedEntryIsTheLastUntilTheRegionSkipsIt: behind an entry that it was told to skip a store waits, through
// restarts and without being told again, and goes on with all that it was given meanwhile. From then on it is past it.
func TestASkippedEntryIsTheLastUntilTheRegionSkipsIt(t *testing.T) {
	logs := logOf{entry(2, creates("before")), entry(3, creates("given up")), entry(4, creates("after")),
		entry(5, creates("given up too")), {Index: 6, Type: raft.LogNoop}, entry(7, creates("later"))}
	skip := map[uint64]uint64{}
	for _, at := range []int{1, 3} {
		sum, err := fsm.EntrySum(logs[at].Data)
		noError(t, err)
		skip[logs[at].Index] = sum
	}
	dir := t.TempDir()
	s := openWith(t, dir, fsm.Options{Skip: skip})
	apply(t, s, 1, initCommand())
	waitsBehind := func(index uint64, names ...string) {
		t.Helper()
		at, stopped := s.Stopped()
		if want := (fsm.Stop{Index: index, Sum: skip[index], Skipped: true}); !stopped || at != want || s.Applied() != index {
			t.Fatalf("stopped %v at %+v, applied %d, wanted %+v", stopped, at, s.Applied(), want)
		}
		if err := s.Halted(); !errors.Is(err, fsm.ErrHalted) ||
			!strings.Contains(err.Error(), fmt.Sprintf("--skip-entry %d:%016x", index, skip[index])) {
			t.Errorf("halted: %v", err)
		}
		for _, name := range []string{"before", "given up", "after", "given up too", "later"} {
			if exists(t, s, name) != slices.Contains(names, name) {
				t.Errorf("at entry %d: %q exists: %v", index, name, !slices.Contains(names, name))
			}
		}
	}
	s.ApplyBatch(logs[:4])
	waitsBehind(3, "before")
	noError(t, s.Close())
	s = openWith(t, dir, fsm.Options{}) // it is not told any more
	waitsBehind(3, "before")
	for _, answer := range s.ApplyBatch(logs[2:4]) {
		if err, ok := answer.(error); !ok || !errors.Is(err, fsm.ErrHalted) {
			t.Errorf("answered %v", answer)
		}
	}
	noError(t, s.Close())
	s = openWith(t, dir, fsm.Options{Skip: skip})
	s.ApplyBatch(logs) // Raft gives again what is not in the file
	if err := s.GoOn(logs[:3]); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("with a log that ends too early: %v", err)
	}
	waitsBehind(3, "before")
	noError(t, s.GoOn(logs))
	waitsBehind(5, "before", "after")
	noError(t, s.GoOn(logs))
	if s.Halted() != nil || s.Applied() != 7 || !exists(t, s, "later") {
		t.Errorf("%v at %d", s.Halted(), s.Applied())
	}
	apply(t, s, 8, &fsm.Checkpoint{})
	noError(t, s.Close())
	s = openWith(t, dir, fsm.Options{})
	if s.Halted() != nil {
		t.Errorf("a state that had gone on waits again: %v", s.Halted())
	}
	apply(t, s, 9, &fsm.Checkpoint{})
}

// TestADamagedEntryIsDamage: what does not match its checksum is not what was proposed.
func TestADamagedEntryIsDamage(t *testing.T) {
	for at := range 30 {
		var damage error
		s := openWith(t, t.TempDir(), fsm.Options{OnDamage: func(err error) { damage = err }})
		l := entry(1, fsm.Encode(named("init"), 0, initCommand()))
		l.Data[1+at] ^= 4 // behind the version
		if err, ok := s.Apply(l).(error); !ok || !errors.Is(err, fsm.ErrDamaged) || damage == nil || s.Halted() != nil {
			t.Errorf("byte %d: %v, marked %v, halted %v", at, err, damage, s.Halted())
		}
		if err := s.View(func(*fsm.Tx) error { return nil }); !errors.Is(err, fsm.ErrDamaged) {
			t.Errorf("a read: %v", err)
		}
	}
}

// TestTheEntryThatIsBeingAppliedIsKnown by its index and checksum, while it is and no longer.
func TestTheEntryThatIsBeingAppliedIsKnown(t *testing.T) {
	defer fsm.WithMistakes()()
	s := openWith(t, t.TempDir(), fsm.Options{})
	apply(t, s, 1, initCommand())
	waiting := entry(3, fsm.EncodeMistakes(&fsm.Waiting{}))
	wanted, err := fsm.EntrySum(waiting.Data)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan []any)
	go func() {
		done <- s.ApplyBatch([]*raft.Log{entry(2, creates("before")), waiting, entry(4, creates("after"))})
	}()
	<-fsm.Entered
	if index, sum := s.Applying(); index != 3 || sum != wanted {
		t.Errorf("entry %d with checksum %x, wanted 3 with %x", index, sum, wanted)
	}
	if exists(t, s, "after") { // a read does not wait for it, and sees nothing of the batch
		t.Error("a read sees what is not applied")
	}
	close(fsm.Leave)
	<-done
	if index, _ := s.Applying(); index != 0 || !exists(t, s, "after") {
		t.Errorf("entry %d is being applied though all are", index)
	}
}
