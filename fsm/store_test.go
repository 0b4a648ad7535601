package fsm_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"

	"coffer/fsm"
)

// filled is a store with secrets, closed; it answers its directory and what it holds.
func filled(t testing.TB, n int) (dir string, want map[string]string) {
	t.Helper()
	dir = t.TempDir()
	s := open(t, dir)
	apply(t, s, 1, initCommand())
	for i := range n {
		apply(t, s, uint64(i+2), &fsm.CreateSecret{
			Ref: fsm.Ref{Account: account, Name: fmt.Sprintf("secret/%04d", i), Suffix: "AAAAAA"}, At: int64(i),
			Version: &fsm.NewVersion{
				ID: fmt.Sprintf("version-%d", i), KeyID: "k", WrappedKey: []byte{1},
				Sealed: bytes.Repeat([]byte{byte(i), 1, 2, 3, 4, 5, 6, 7}, 40),
			},
		})
	}
	want = values(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, want
}

// TestEveryFlipIsFoundOrHarmless flips a byte at random places of the store's file: what is then read is what
// was written, or the store says that it is damaged. A scrub finds what reads did not meet.
func TestEveryFlipIsFoundOrHarmless(t *testing.T) {
	dir, want := filled(t, 200)
	whole, err := os.ReadFile(filepath.Join(dir, fsm.File))
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	found, harmless := 0, 0
	for range 150 {
		b := bytes.Clone(whole)
		at := random.IntN(len(b))
		for b[at] == 0 { // most of the file is not in use yet
			at = random.IntN(len(b))
		}
		b[at] ^= 1 << random.IntN(8)
		damaged := t.TempDir()
		if err := os.WriteFile(filepath.Join(damaged, fsm.File), b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := fsm.Open(damaged, fsm.Options{
			Log: slog.New(slog.NewTextHandler(io.Discard, nil)), OnDamage: func(error) {},
		})
		if err == nil {
			err = readAll(t, s, want)
			if err == nil {
				_, err = s.Scrub(t.Context())
			}
			_ = s.Close()
		}
		switch {
		case err == nil:
			harmless++ // a free page, or slack
		case errors.Is(err, fsm.ErrDamaged):
			found++
		default:
			t.Errorf("byte %d: %v", at, err)
		}
	}
	t.Logf("%d found, %d harmless", found, harmless)
	if found < 50 {
		t.Errorf("only %d of 150 flips were found", found)
	}
}

// readAll reads every secret by name and fails the test on any wrong answer.
func readAll(t *testing.T, s *fsm.Store, want map[string]string) error {
	for i := range len(want) {
		name, id := fmt.Sprintf("secret/%04d", i), fmt.Sprintf("version-%d", i)
		err := s.View(func(tx *fsm.Tx) error {
			sec := tx.ByName(account, name)
			if sec == nil {
				return errNotFound
			}
			v := tx.Version(sec, id)
			if v == nil {
				return errNotFound
			}
			if value := tx.Value(sec, v); string(value.Sealed) != want[name+"AAAAAA"+id] {
				t.Errorf("%s has another value", name)
			}
			return nil
		})
		if errors.Is(err, errNotFound) { // a damaged page above the row: the scrub must say so
			if _, scrubErr := s.Scrub(t.Context()); !errors.Is(scrubErr, fsm.ErrDamaged) {
				t.Errorf("%s is gone and the scrub finds nothing", name)
			}
			return fsm.ErrDamaged
		}
		if err != nil {
			return err
		}
	}
	return nil
}

var errNotFound = errors.New("not found")

func save(t testing.TB, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := open(t, dir).Save(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestRestore takes a snapshot into a store that has another state: afterwards it is the snapshot's, and a
// damaged one changes nothing.
func TestRestore(t *testing.T) {
	dir, want := filled(t, 50)
	whole := save(t, dir)
	s := open(t, t.TempDir())
	apply(t, s, 1, initCommand(), &fsm.CreateSecret{
		Ref: fsm.Ref{Account: account, Name: "other", Suffix: "AAAAAA"}, At: 1,
	})
	for at := 0; at < len(whole); at += 97 {
		b := bytes.Clone(whole)
		b[at] ^= 4
		if err := s.Restore(io.NopCloser(bytes.NewReader(b))); err == nil {
			t.Fatalf("a snapshot with byte %d changed was restored", at)
		}
	}
	for _, n := range []int{0, 1, 8, 100, len(whole) - 1} {
		if err := s.Restore(io.NopCloser(bytes.NewReader(whole[:n]))); err == nil {
			t.Fatalf("a snapshot of %d bytes of %d was restored", n, len(whole))
		}
	}
	if err := s.Restore(io.NopCloser(io.MultiReader(bytes.NewReader(whole), bytes.NewReader([]byte{0})))); err == nil {
		t.Fatal("a snapshot with something after its end was restored")
	}
	if got := values(t, s); len(got) != 0 || s.Applied() != 1 {
		t.Fatalf("refused snapshots changed the state: %d values, entry %d", len(got), s.Applied())
	}
	if err := s.Restore(io.NopCloser(bytes.NewReader(whole))); err != nil {
		t.Fatal(err)
	}
	if got := values(t, s); fmt.Sprint(got) != fmt.Sprint(want) || s.Applied() != 51 {
		t.Fatalf("the restored state has %d values of %d, entry %d", len(got), len(want), s.Applied())
	}
	if _, err := s.Scrub(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func FuzzRestore(f *testing.F) {
	dir, _ := filled(f, 2)
	whole := save(f, dir)
	f.Add(whole)
	f.Add(whole[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := fsm.ReadSnapshot(bytes.NewReader(b))
		if err == nil && !bytes.Equal(b, whole) {
			t.Error("something was taken for a snapshot that is none")
		}
		if err != nil && !errors.Is(err, fsm.ErrBadSnapshot) {
			t.Errorf("an unexpected error: %v", err)
		}
	})
}

// TestUnknownCommandStopsTheStore shows that a command of a newer version is never skipped.
func TestUnknownCommandStopsTheStore(t *testing.T) {
	s := open(t, t.TempDir())
	newer := append(make([]byte, fsm.IDLen), 0, 0xe7, 0x07, 0xa0) // kind 999
	out := s.Apply(&raft.Log{Index: 1, Term: 1, Type: raft.LogCommand, Data: fsm.EncodeEntry([][]byte{newer})})
	if err, ok := out.(error); !ok || !errors.Is(err, fsm.ErrUnknownCommand) {
		t.Fatalf("got %v", out)
	}
	if s.Err() == nil || s.Applied() != 0 {
		t.Error("the store goes on")
	}
}
