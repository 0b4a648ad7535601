package fsm_test

import (
	"testing"

	"coffer/fsm"
)

// TestFormatIsRaisedInTheTermOfItsLeader shows that a raise which a later leader's term carries is refused: that leader
// may have taken in a member which does not read the format.
func TestFormatIsRaisedInTheTermOfItsLeader(t *testing.T) {
	s := open(t, t.TempDir())
	apply(t, s, 1, initCommand()) // in term 1, as all that apply applies
	format := func() (f uint64) {
		if err := s.View(func(tx *fsm.Tx) error { f = tx.Format(); return nil }); err != nil {
			t.Fatal(err)
		}
		return f
	}
	before := format()
	if out := apply(t, s, 2, &fsm.RaiseFormat{To: fsm.FirstFormat, Term: 2}); out[0].Err() == nil || format() != before {
		t.Errorf("raised by a leader of another term: %v, format %d", out[0].Err(), format())
	}
	if out := apply(t, s, 3, &fsm.RaiseFormat{To: fsm.FirstFormat, Term: 1}); out[0].Err() != nil ||
		format() != fsm.FirstFormat {
		t.Errorf("raised by its leader: %v, format %d", out[0].Err(), format())
	}
}

func TestFormatRangeSaysWhatToInstall(t *testing.T) {
	r := fsm.FormatRange{Oldest: 2, Newest: 3}
	for format, ok := range map[uint64]bool{0: false, 1: false, 2: true, 3: true, 4: false} {
		if err := r.Check(format); (err == nil) != ok {
			t.Errorf("format %d: %v", format, err)
		}
	}
}
