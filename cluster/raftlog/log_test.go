package raftlog_test

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"

	"coffer/cluster/raftlog"
	"coffer/damage"
)

// TestOnlyAnEmptyDirectoryHasNoLog takes files away: what is missing is damage, never a beginning.
func TestOnlyAnEmptyDirectoryHasNoLog(t *testing.T) {
	dir := t.TempDir()
	from, to := written(t, dir)
	whole := read(t, dir)
	for _, without := range []string{raftlog.File, raftlog.StateFile} {
		if _, err := right(whole.written(t, t.TempDir(), without), from, to, &told{}); !errors.Is(err, damage.Err) {
			t.Errorf("without %s: %v, wanted damage", without, err)
		}
	}
	o := new(told).options()
	o.Used = true
	if _, err := raftlog.Open(t.TempDir(), o); !errors.Is(err, damage.Err) {
		t.Errorf("no log beside a state: %v, wanted damage", err)
	}
}

// TestTheEndOfTheLogIsMissed puts an older log in the place of the last: it is whole, but not all of it.
func TestTheEndOfTheLogIsMissed(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, &told{})
	store(t, l, 1, 20)
	noError(t, l.Close())
	older := read(t, dir)
	l = open(t, dir, &told{})
	store(t, l, 21, 40)
	noError(t, l.Close())
	l = open(t, with(read(t, dir), raftlog.File, older[raftlog.File]).written(t, t.TempDir()), &told{})
	defer l.Close()
	noError(t, l.SetUint64([]byte("CurrentTerm"), 9)) // does not make it forget
	if err := l.Verify(0, 0, 0); !errors.Is(err, damage.Err) || !strings.Contains(err.Error(), "it had entry 40") {
		t.Errorf("%v, wanted damage", err)
	}
}

func TestOnlyHolesAboveTheNewestSnapshotAreDamage(t *testing.T) {
	l := open(t, t.TempDir(), &told{})
	defer l.Close()
	store(t, l, 1, 5)
	store(t, l, 11, 15)
	noError(t, l.Verify(10, 0, 0)) // a snapshot at 10
	noError(t, l.Verify(15, 0, 0))
	var c told
	o := open(t, t.TempDir(), &c)
	defer o.Close()
	store(t, o, 1, 5)
	store(t, o, 11, 15)
	if err := o.Verify(9, 0, 0); !errors.Is(err, damage.Err) || c.damage.Load() != 1 {
		t.Errorf("%v, told %d times: wanted damage", err, c.damage.Load())
	}
}

// TestEntriesBelowAnInstalledSnapshotAreRemoved opens what a crash leaves between the installing of a snapshot and the
// removal of the entries that it replaces.
func TestEntriesBelowAnInstalledSnapshotAreRemoved(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, &told{})
	store(t, l, 1, 50)
	noError(t, l.Close())
	for range 2 { // the second start finds it empty
		l = open(t, dir, &told{})
		noError(t, l.Verify(80, 80, 9))
		if last, err := l.LastIndex(); last != 0 || err != nil {
			t.Fatalf("the log ends at %d (%v), wanted it empty", last, err)
		}
		noError(t, l.Close())
	}
	l = open(t, dir, &told{})
	store(t, l, 81, 90)
	noError(t, l.Close())
	l = open(t, dir, &told{})
	defer l.Close()
	noError(t, l.Verify(80, 80, 9))
	noError(t, same(l, 81, 90))
}

// TestACrashWhileTheRecordIsWritten stops the writing of the record at every step, with what is being written torn:
// what was there before is read, or what was being written, and any one copy may be lost besides once a write has
// ended.
func TestACrashWhileTheRecordIsWritten(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, &told{})
	noError(t, l.SetUint64([]byte("CurrentTerm"), 3))
	before := read(t, dir)
	noError(t, l.SetUint64([]byte("CurrentTerm"), 4))
	after := read(t, dir)
	noError(t, l.Close())
	half := len(after[raftlog.StateFile]) / 2
	old, young := before[raftlog.StateFile], after[raftlog.StateFile]
	torn := append(bytes.Clone(young[:16]), old[16:half]...)
	if bytes.Equal(torn, young[:half]) || bytes.Equal(torn, old[:half]) {
		t.Fatal("nothing is torn")
	}
	lost := make([]byte, half)
	for name, c := range map[string]struct {
		first, second []byte
		want          uint64
	}{
		"first copy torn":            {torn, old[half:], 3},
		"first copy written":         {young[:half], old[half:], 4},
		"second copy torn":           {young[:half], torn, 4},
		"done, first copy lost":      {lost, young[half:], 4},
		"done, second copy lost":     {young[:half], lost, 4},
		"done, second write ignored": {young[:half], old[half:], 4},
	} {
		dir := with(after, raftlog.StateFile, append(bytes.Clone(c.first), c.second...)).written(t, t.TempDir())
		for range 2 { // the first start mends
			l := open(t, dir, &told{})
			if got, err := l.GetUint64([]byte("CurrentTerm")); got != c.want || err != nil {
				t.Errorf("%s: term %d (%v), wanted %d", name, got, err, c.want)
			}
			noError(t, l.Close())
			b := read(t, dir)[raftlog.StateFile]
			if !bytes.Equal(b[:half], b[half:]) {
				t.Errorf("%s: the copies differ after a start", name)
			}
		}
	}
}

func TestNamesThatDoNotFitAreRefused(t *testing.T) {
	var c told
	l := open(t, t.TempDir(), &c)
	defer l.Close()
	long := strings.Repeat("x", 5000) // a candidate says who it is
	if l.Set([]byte("LastVoteCand"), []byte(long)) == nil || l.SetClusterID(long) == nil || l.SetPromised(long) == nil {
		t.Error("a name that does not fit was taken")
	}
	if l.Set([]byte("Other"), nil) == nil || l.SetUint64([]byte("Other"), 1) == nil {
		t.Error("a key that nobody knows was taken")
	}
	noError(t, l.SetUint64([]byte("CurrentTerm"), 2))
	if c.fatal.Load() != 0 {
		t.Error("a name that does not fit ended the process")
	}
}

func TestOneProcessHasTheLog(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, &told{})
	defer l.Close()
	if _, err := raftlog.Open(dir, new(told).options()); err == nil || errors.Is(err, damage.Err) {
		t.Errorf("a second process: %v, wanted a refusal that is no damage", err)
	}
}

// failing is a store whose writes fail.
type failing struct {
	raft.LogStore
	err error
}

func (f *failing) StoreLogs(entries []*raft.Log) error {
	if f.err != nil {
		return f.err
	}
	return f.LogStore.StoreLogs(entries)
}

func failingLog(t *testing.T, c *told) (*raftlog.Log, *failing) {
	t.Helper()
	l := open(t, t.TempDir(), c)
	store(t, l, 1, 9)
	f := &failing{}
	l.Between(func(s raft.LogStore) raft.LogStore { f.LogStore = s; return f })
	return l, f
}

var (
	full       = &fs.PathError{Op: "write", Path: raftlog.File, Err: syscall.ENOSPC}
	unsyncable = error(syscall.EIO) // as bbolt returns it from fdatasync
)

// TestAFailedSyncIsNeverReadOrTriedAgain shows that one failed write ends it all.
func TestAFailedSyncIsNeverReadOrTriedAgain(t *testing.T) {
	for _, err := range []error{unsyncable, syscall.ENOSPC, &fs.PathError{Op: "write", Err: syscall.EIO}} {
		var c told
		l, f := failingLog(t, &c)
		f.err = err
		if got := l.StoreLog(entry(10)); !errors.Is(got, err) || c.fatal.Load() != 1 {
			t.Fatalf("%v: %v, told %d times", err, got, c.fatal.Load())
		}
		f.err = nil // it would work the next time
		term := l.SetUint64([]byte("CurrentTerm"), 5)
		if l.StoreLog(entry(10)) == nil || l.GetLog(1, new(raft.Log)) == nil || term == nil {
			t.Errorf("%v: the log was used after it", err)
		}
		if _, got := l.LastIndex(); got == nil {
			t.Errorf("%v: the log was read after it", err)
		}
		if c.fatal.Load() != 1 || c.damage.Load() != 0 {
			t.Errorf("%v: told %d times, as damage %d times", err, c.fatal.Load(), c.damage.Load())
		}
		_ = l.Close()
	}
}

func TestAFullDiskIsAnAnswerAndTriedAgain(t *testing.T) {
	var c told
	l, f := failingLog(t, &c)
	defer l.Close()
	f.err = full
	if err := l.StoreLog(entry(10)); !errors.Is(err, syscall.ENOSPC) || c.fatal.Load() != 0 {
		t.Fatalf("%v, told %d times", err, c.fatal.Load())
	}
	noError(t, l.SetUint64([]byte("CurrentTerm"), 5)) // needs no room
	f.err = nil
	store(t, l, 10, 12)
	noError(t, same(l, 1, 12))
}

// TestAFullDiskAfterACutEndsTheProcess shows the one full disk that is no answer: Raft goes on as if it had the
// entries that were removed.
func TestAFullDiskAfterACutEndsTheProcess(t *testing.T) {
	var c told
	l, f := failingLog(t, &c)
	noError(t, l.DeleteRange(7, 9))
	f.err = full
	if err := l.StoreLog(entry(7)); err == nil || c.fatal.Load() != 1 {
		t.Errorf("%v, told %d times", err, c.fatal.Load())
	}
	_ = l.Close()
}

// TestAPageThatCanNotBeReadIsDamage cuts the file while it is mapped: the fault is no crash.
func TestAPageThatCanNotBeReadIsDamage(t *testing.T) {
	var c told
	dir := t.TempDir()
	l := open(t, dir, &c)
	store(t, l, 1, 300)
	noError(t, os.Truncate(dir+"/"+raftlog.File, 8192))
	var err error
	for i := uint64(1); i <= 300 && err == nil; i++ {
		err = l.GetLog(i, new(raft.Log))
	}
	if !errors.Is(err, damage.Err) || c.damage.Load() != 1 {
		t.Errorf("%v, told %d times: wanted damage", err, c.damage.Load())
	}
	_ = l.Close()
}

// with is the files with another content of one.
func with(f files, name string, b []byte) files {
	f = maps.Clone(f)
	f[name] = b
	return f
}

// TestTheLogDoesNotEndBelowTheState puts a log that ends earlier beside a state that has had later entries.
func TestTheLogDoesNotEndBelowTheState(t *testing.T) {
	var c told
	l := open(t, t.TempDir(), &c)
	defer l.Close()
	store(t, l, 1, 40)
	if err := l.Verify(41, 0, 0); !errors.Is(err, damage.Err) || c.damage.Load() != 1 {
		t.Errorf("%v, told %d times: wanted damage", err, c.damage.Load())
	}
}

// TestWhatIsHeldIsNotCompacted holds entries while the log is compacted, and while a snapshot is installed.
func TestWhatIsHeldIsNotCompacted(t *testing.T) {
	l := open(t, t.TempDir(), &told{})
	defer l.Close()
	store(t, l, 1, 99)
	one, other := l.Hold(30), l.Hold(20)
	noError(t, l.DeleteRange(1, 50))
	noError(t, same(l, 20, 99))
	other()
	noError(t, l.DeleteRange(20, 50))
	noError(t, same(l, 30, 99))
	noError(t, l.DeleteRange(30, 50)) // nothing
	noError(t, same(l, 30, 99))
	noError(t, l.DeleteRange(81, 99)) // another leader's entries come
	noError(t, same(l, 30, 80))
	one()
	noError(t, l.DeleteRange(30, 50))
	noError(t, same(l, 51, 80))
	defer l.Hold(60)()
	noError(t, l.DeleteRange(51, 80)) // a snapshot was installed
	noError(t, same(l, 0, 0))
	noError(t, l.Verify(90, 0, 0))
}

// TestARecoveryIsDoneWholeOrNotAtAll stops a recovery of the log at each step, and runs it again.
func TestARecoveryIsDoneWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, &told{})
	store(t, l, 1, 150) // the last is of term 2
	noError(t, l.SetUint64([]byte("CurrentTerm"), 6))
	noError(t, l.SetClusterID(id))
	noError(t, l.Close())
	before := read(t, dir)

	l = open(t, dir, &told{})
	full := &failing{err: full}
	l.Between(func(s raft.LogStore) raft.LogStore { full.LogStore = s; return full })
	if _, _, err := l.Recover("another", []byte("me"), 0, 0); err == nil {
		t.Fatal("nothing was interrupted")
	}
	noError(t, l.Close())
	for _, files := range []files{before, read(t, dir)} {
		dir := files.written(t, t.TempDir())
		l := open(t, dir, &told{})
		if err := l.Verify(0, 0, 0); (l.Recovered() > 0) != errors.Is(err, raftlog.ErrInterrupted) {
			t.Errorf("the log of an interrupted recovery can be used: %v", err)
		}
		index, term, err := l.Recover("new", []byte("me"), 0, 0)
		noError(t, err)
		noError(t, l.Close())
		l = open(t, dir, &told{})
		noError(t, l.Verify(0, 0, 0))
		var got raft.Log
		noError(t, l.GetLog(151, &got))
		kept, err := l.GetUint64([]byte("CurrentTerm"))
		noError(t, err)
		if index != 151 || term < 7 || got.Term != term || kept != term || got.Type != raft.LogConfiguration ||
			string(got.Data) != "me" || l.ClusterID() != "new" || l.Recovered() != 151 {
			t.Errorf("entry %d of term %d: %+v, term %d, cluster %s", index, term, got, kept, l.ClusterID())
		}
		noError(t, l.EndRecovery())
		if l.Recovered() != 0 {
			t.Error("it is not over")
		}
		noError(t, l.Close())
	}
}

// TestARecoveryGoesOnAfterTheNewestSnapshot recovers a node whose log is empty, and one whose log ends below a
// snapshot.
func TestARecoveryGoesOnAfterTheNewestSnapshot(t *testing.T) {
	for _, entries := range []uint64{0, 40} {
		l := open(t, t.TempDir(), &told{})
		store(t, l, 1, entries)
		noError(t, l.Verify(90, 90, 9))
		index, term, err := l.Recover("new", []byte("me"), 90, 5)
		if index != 91 || term != 6 || err != nil {
			t.Errorf("entry %d of term %d (%v), wanted 91 of 6", index, term, err)
		}
		noError(t, l.Verify(90, 90, 9))
		noError(t, l.Close())
	}
}
