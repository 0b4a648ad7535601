package raftlog_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"testing"

	"pgregory.net/rapid"

	"coffer/cluster/raftlog"
	"coffer/damage"
)

const (
	term = 7
	vote = "n2"
	id   = "2f0a9c6e-5a0e-4d21-8c1f-0c59a1f6a111"
)

// written makes a directory with a log that was cut at both ends, and all that survives beside it.
func written(t testing.TB, dir string) (from, to uint64) {
	t.Helper()
	l := open(t, dir, &told{})
	store(t, l, 1, 400)
	noError(t, l.DeleteRange(301, 400))
	store(t, l, 301, 330)
	noError(t, l.DeleteRange(1, 60))
	noError(t, l.SetUint64([]byte("LastVoteTerm"), term))
	noError(t, l.Set([]byte("LastVoteCand"), []byte(vote)))
	noError(t, l.SetUint64([]byte("CurrentTerm"), term))
	noError(t, l.SetClusterID(id))
	noError(t, l.SetPromised("n3"))
	noError(t, l.Close())
	return 61, 330
}

// right says what of a directory that written made is not as it was written.
func right(dir string, from, to uint64, c *told) (opened bool, err error) {
	l, err := raftlog.Open(dir, c.options())
	if err != nil {
		return false, err
	}
	defer l.Close()
	return true, asWritten(l, from, to)
}

func asWritten(l *raftlog.Log, from, to uint64) error {
	if err := l.Verify(from-1, 0, 0); err != nil {
		return err
	}
	for key, want := range map[string]uint64{"CurrentTerm": term, "LastVoteTerm": term} {
		if got, err := l.GetUint64([]byte(key)); err != nil || got != want {
			return fmt.Errorf("%s is %d, wanted %d (%w)", key, got, want, err)
		}
	}
	if got, err := l.Get([]byte("LastVoteCand")); err != nil || string(got) != vote {
		return fmt.Errorf("the vote is %q (%w)", got, err)
	}
	if l.ClusterID() != id || l.Promised() != "n3" {
		return fmt.Errorf("the cluster is %q, the beginner %q", l.ClusterID(), l.Promised())
	}
	return same(l, from, to)
}

// TestFlipsAreFound flips a bit anywhere in the files of a node that is down: it is found as damage, and told once, or
// everything is read as it was written.
func TestFlipsAreFound(t *testing.T) {
	whole := t.TempDir()
	from, to := written(t, whole)
	_, err := right(whole, from, to, &told{})
	noError(t, err)
	files := read(t, whole)
	outcomes := map[bool]int{}
	rapid.Check(t, func(r *rapid.T) {
		name := rapid.SampledFrom([]string{raftlog.File, raftlog.File, raftlog.StateFile}).Draw(r, "file")
		at := rapid.IntRange(0, len(files[name])-1).Draw(r, "byte")
		if name == raftlog.File && rapid.Bool().Draw(r, "head") {
			at = at&^4095 + at%64 // where pages are described
		}
		flipped := maps.Clone(files)
		flipped[name] = bytes.Clone(files[name])
		flipped[name][at] ^= 1 << rapid.IntRange(0, 7).Draw(r, "bit")
		dir, err := os.MkdirTemp(t.TempDir(), "")
		noError(t, err)
		defer os.RemoveAll(dir)
		var c told
		opened, err := right(flipped.written(t, dir), from, to, &c)
		wantTold := int32(0)
		if opened && err != nil { // what is found while opening is Open's error
			wantTold = 1
		}
		if err != nil && !errors.Is(err, damage.Err) || c.damage.Load() != wantTold || c.fatal.Load() > 0 {
			r.Fatalf("byte %d of %s: %v; damage told %d times", at, name, err, c.damage.Load())
		}
		outcomes[err == nil]++
	})
	if outcomes[true] == 0 || outcomes[false] == 0 {
		t.Error("the flips show nothing")
	}
}

// TestNoFlipOfTheRecordIsServed flips each byte of the record, in one copy and in both at once.
func TestNoFlipOfTheRecordIsServed(t *testing.T) {
	dir := t.TempDir()
	from, to := written(t, dir)
	files := read(t, dir)
	half := len(files[raftlog.StateFile]) / 2
	for _, at := range []int{0, 7, 8, 15, 16, 17, 18, 19, 25, 60, 100, half - 1} {
		for _, copies := range [][]int{{0}, {half}, {0, half}} {
			b := bytes.Clone(files[raftlog.StateFile])
			for _, start := range copies {
				b[start+at] ^= 4
			}
			var c told
			_, err := right(with(files, raftlog.StateFile, b).written(t, t.TempDir()), from, to, &c)
			if len(copies) == 1 && err != nil {
				t.Errorf("byte %d of one copy: %v", at, err)
			}
			if len(copies) == 2 && !errors.Is(err, damage.Err) {
				t.Errorf("byte %d of both copies: %v, wanted damage", at, err)
			}
		}
	}
}
