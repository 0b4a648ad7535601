package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"coffer/damage"
	"coffer/rows"
)

// ErrHalted says that this node has stopped applying at an entry of the log that it can't apply.
var ErrHalted = errors.New("this node has stopped applying")

// haltedError is an entry that can't be applied, though it is what was proposed: it is of a newer version of Coffer,
// or meets a mistake in this one. It is no damage, and every node of this version stops at it.
type haltedError struct {
	at    int // in the batch
	index uint64
	sum   uint64
	why   error
}

func (e *haltedError) Error() string {
	return fmt.Sprintf("%v at log entry %d: %v. Reads go on, writes do not. Install a version of Coffer that can apply "+
		"the entry; or give it up: start every node of the region with --skip-entry %d:%016x",
		ErrHalted, e.index, e.why, e.index, e.sum)
}

// Is reports that the error is [ErrHalted].
func (e *haltedError) Is(target error) bool { return target == ErrHalted }

// Unwrap is why the entry can't be applied.
func (e *haltedError) Unwrap() error { return e.why }

// cannot is the error of a batch's entry that can't be applied. Damage is not the entry's fault and stays what it is.
func (s *Store) cannot(logs []*raft.Log, at int, why error) error {
	if errors.Is(why, damage.Err) {
		return fmt.Errorf("log entry %d: %w", logs[at].Index, why)
	}
	sum, err := EntrySum(logs[at].Data)
	if err != nil {
		sum = 0
	}
	return &haltedError{at: at, index: logs[at].Index, sum: sum, why: why}
}

func (s *Store) halt(e *haltedError) {
	s.halted.Store(e)
	err := error(e)
	s.ended.Store(&err)
	s.log.Error("a log entry can't be applied", "index", e.index, "error", e)
}

// Halted says at which entry of the log the store has stopped applying, why, and what to do; nil while it applies.
// Reads go on, and no snapshot for Raft is made, so that the entry and those behind it stay in the log.
func (s *Store) Halted() error {
	if e := s.halted.Load(); e != nil {
		return e
	}
	return nil
}

// skip leaves in the state that the entry was skipped, so that a node that did not skip it is told from those that did.
func (w *writeTx) skip(index, sum uint64) error {
	key := binary.BigEndian.AppendUint64(nil, index)
	w.Writer.Add(tableSkipped, key, rows.NewRow(binary.BigEndian.AppendUint64(nil, sum)))
	return fmt.Errorf("log entry %d was skipped, as this node was told to", index)
}
