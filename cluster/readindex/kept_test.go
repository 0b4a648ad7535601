package readindex_test

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"coffer/cluster/readindex"
)

func openKept(t *testing.T, dir string) *readindex.Kept {
	t.Helper()
	k, err := readindex.OpenKept(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

func note(t *testing.T, k *readindex.Kept, began time.Time, index, durable uint64) {
	t.Helper()
	if err := k.Note(readindex.Confirmation{Began: began, Index: index}, durable); err != nil {
		t.Fatal(err)
	}
}

// TestTheAgeOutlivesARestart counts what the disk had reached, and nothing newer.
func TestTheAgeOutlivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, none := t.TempDir(), readindex.Confirmation{}
		k := openKept(t, dir)
		if age := k.Age(none); age < 10*365*24*time.Hour {
			t.Errorf("a state that was never confirmed is %v old", age)
		}
		first := time.Now()
		note(t, k, first, 10, 10)
		time.Sleep(time.Second)
		note(t, k, time.Now(), 12, 11) // not on the disk
		if age := k.Age(readindex.Confirmation{Began: first}); age != time.Second {
			t.Errorf("in life: %v", age)
		}
		time.Sleep(time.Minute)
		k = openKept(t, dir)
		time.Sleep(time.Second)
		if age := k.Age(none); age != time.Minute+2*time.Second {
			t.Errorf("after a restart: %v", age)
		}
	})
}

// TestTheAgeKeepsUpWithADiskThatLags writes without a pause: the newest confirmation is never on the disk, but one of a
// little while ago is.
func TestTheAgeKeepsUpWithADiskThatLags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		k := openKept(t, dir)
		for i := range uint64(60) {
			note(t, k, time.Now(), 100+10*i, 70+10*i)
			time.Sleep(time.Second)
		}
		if age := openKept(t, dir).Age(readindex.Confirmation{}); age < 3*time.Second || age > 8*time.Second {
			t.Errorf("after a minute of writes: %v", age)
		}
	})
}

func TestABrokenFileSaysNothing(t *testing.T) {
	dir := t.TempDir()
	note(t, openKept(t, dir), time.Now(), 1, 1)
	path := filepath.Join(dir, "confirmed")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		b[i] ^= 1
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if age := openKept(t, dir).Age(readindex.Confirmation{}); age < 10*365*24*time.Hour {
			t.Errorf("byte %d flipped: %v", i, age)
		}
		b[i] ^= 1
	}
}
