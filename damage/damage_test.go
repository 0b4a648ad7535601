package damage_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"coffer/damage"
)

// guarded is do as a transaction's edge runs it, and the panic that went on, if one did.
func guarded(do func(), mapped func(uintptr) bool) (err error, panicked any) {
	defer func() { panicked = recover() }()
	err = func() (err error) {
		defer damage.Faults()()
		defer damage.Recover(&err, mapped)
		do()
		return nil
	}()
	return err, nil
}

func open(t *testing.T) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestAMistakeIsNoDamage(t *testing.T) {
	db := open(t)
	var none *struct{ n int }
	for name, do := range map[string]func(){
		"a panic":                      func() { panic("a mistake") },
		"a nil pointer":                func() { none.n++ },
		"a mistake in bbolt's closure": func() { _ = db.View(func(*bbolt.Tx) error { none.n++; return nil }) },
		"a mistake after one that was mended": func() {
			func() { defer func() { _ = recover() }(); panic("first") }()
			panic("second")
		},
	} {
		if err, panicked := guarded(do, func(uintptr) bool { return false }); err != nil || panicked == nil {
			t.Errorf("%s: error %v, panic %v: wanted the panic to go on", name, err, panicked)
		}
	}
}

func TestWhatBoltAndChecksumsFindIsDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("b"))
		for i := range 2000 {
			if err == nil {
				err = b.Put([]byte{byte(i >> 8), byte(i)}, bytes.Repeat([]byte{7}, 50))
			}
		}
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := 4 * os.Getpagesize(); at < len(whole); at += os.Getpagesize() {
		for i := range 16 { // the head of every page
			whole[at+i] ^= 0xff
		}
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func(){
		"a checksum": func() { panic(damage.Found("row 1 does not match its checksum")) },
		"a page": func() {
			db, err := bbolt.Open(path, 0o600, nil)
			if err != nil {
				panic(damage.Found(err.Error()))
			}
			defer db.Close()
			_ = db.View(func(tx *bbolt.Tx) error {
				c := tx.Bucket([]byte("b")).Cursor()
				for k, _ := c.First(); k != nil; k, _ = c.Next() {
				}
				return nil
			})
		},
	} {
		if err, panicked := guarded(do, nil); !errors.Is(err, damage.Err) {
			t.Errorf("%s: error %v, panic %v: wanted damage", name, err, panicked)
		}
	}
}

func TestAFaultIsDamageInAMappedFileOnly(t *testing.T) {
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(page)
	var sum byte
	touch := func() { sum += page[8] }
	if err, panicked := guarded(touch, func(uintptr) bool { return true }); !errors.Is(err, damage.Err) {
		t.Errorf("in the mapping: error %v, panic %v: wanted damage", err, panicked)
	}
	if err, panicked := guarded(touch, func(uintptr) bool { return false }); err != nil || panicked == nil {
		t.Errorf("elsewhere: error %v, panic %v: wanted the panic to go on", err, panicked)
	}
}

func TestOnlyAFullDiskBeforeTheSyncIsTriedAgain(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{fmt.Errorf("commit: %w", &fs.PathError{Op: "write", Path: "state.db", Err: syscall.ENOSPC}), true},
		{&fs.PathError{Op: "write", Path: "state.db", Err: syscall.EIO}, false},
		{&fs.PathError{Op: "sync", Path: "state.db", Err: syscall.ENOSPC}, false},
		{syscall.ENOSPC, false}, // fdatasync, as bbolt calls it
		{nil, false},
	} {
		if got := damage.FullBeforeSync(c.err); got != c.want {
			t.Errorf("%v: %v, wanted %v", c.err, got, c.want)
		}
	}
}
