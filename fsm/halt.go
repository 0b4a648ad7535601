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

// Stop is the log entry that a store has stopped at.
type Stop struct {
	Index uint64
	Sum   uint64 // the entry's checksum ([EntrySum])
	// Skipped says that the entry was skipped, and that the store waits behind it ([Store.GoOn]).
	Skipped bool
}

// haltedError is an entry that can't be applied, though it is what was proposed: it is of a newer version of Coffer,
// or meets a mistake in this one. It is no damage, and every node of this version stops at it.
type haltedError struct {
	Stop
	at  int // in the batch
	why error
}

func (e *haltedError) Error() string {
	if e.Skipped {
		return fmt.Sprintf("%v behind log entry %d, which it has skipped: it goes on when a majority of the voters has "+
			"skipped it too. Reads go on, writes do not. Stop the other nodes of the region and start them with "+
			"--skip-entry %d:%016x", ErrHalted, e.Index, e.Index, e.Sum)
	}
	return fmt.Sprintf("%v at log entry %d: %v. Reads go on, writes do not. Install a version of Coffer that can apply "+
		"the entry; or give it up: start every node of the region with --skip-entry %d:%016x",
		ErrHalted, e.Index, e.why, e.Index, e.Sum)
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
	return &haltedError{Stop: Stop{Index: logs[at].Index, Sum: sum}, at: at, why: why}
}

func (s *Store) halt(e *haltedError) {
	s.halted.Store(e)
	err := error(e)
	s.ended.Store(&err)
	s.log.Error("the store has stopped applying the log", "index", e.Index, "error", e)
}

// Halted says at which entry of the log the store has stopped applying, why, and what to do; nil while it applies.
// Reads go on, and no snapshot for Raft is made, so that the entry and those behind it stay in the log.
func (s *Store) Halted() error {
	if e := s.halted.Load(); e != nil {
		return e
	}
	return nil
}

// Stopped is the entry that the store has stopped at; false while it applies.
func (s *Store) Stopped() (at Stop, stopped bool) {
	if e := s.halted.Load(); e != nil {
		return e.Stop, true
	}
	return Stop{}, false
}

// waitBehindSkipped has the store stop where its state ends with an entry that was skipped. It goes on ([Store.GoOn])
// when that is what the region does: a state that has more behind such an entry had gone on.
func (s *Store) waitBehindSkipped() error {
	at := s.rows.Position()
	if at.Through != at.Index {
		return nil
	}
	return s.View(func(tx *Tx) error {
		if sum, skipped := tx.Skipped(at.Index); skipped {
			s.halt(&haltedError{Stop: Stop{Index: at.Index, Sum: sum, Skipped: true}})
		}
		return nil
	})
}

// Log is where entries of Raft's log are read ([raft.LogStore]).
type Log interface {
	GetLog(index uint64, entry *raft.Log) error
}

// goOnBatch is how many entries are read at a time that were given to a store while it had stopped.
const goOnBatch = 64

// GoOn ends the waiting behind a skipped entry: the region has skipped it. What Raft has given to the store meanwhile
// is applied, as it stands in the log. If the log can't be read, the store waits on.
func (s *Store) GoOn(log Log) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	waiting := s.halted.Load()
	if waiting == nil || !waiting.Skipped {
		return nil
	}
	s.ended.Store(nil)
	for next := s.Applied() + 1; next <= s.given; {
		var entries []*raft.Log
		for ; next <= s.given && len(entries) < goOnBatch; next++ {
			entry := new(raft.Log)
			if err := log.GetLog(next, entry); err != nil {
				s.halt(waiting)
				return fmt.Errorf("read log entry %d, behind the one that was skipped: %w", next, err)
			}
			entries = append(entries, entry)
		}
		s.apply(entries, make([]any, len(entries)))
		if s.ended.Load() != nil { // at another entry, or since it is being stopped
			break
		}
	}
	s.halted.CompareAndSwap(waiting, nil)
	s.log.Warn("the store goes on behind a log entry that was skipped", "index", waiting.Index)
	return nil
}

// Skipped is the checksum of the log entry at an index that was skipped; false if it was not.
func (t *Tx) Skipped(index uint64) (sum uint64, skipped bool) {
	key := binary.BigEndian.AppendUint64(nil, index)
	payload := t.Get(tableSkipped, key)
	if payload == nil {
		return 0, false
	}
	if len(payload) != 8 {
		tableSkipped.Contradicts(key, "is no checksum")
	}
	return binary.BigEndian.Uint64(payload), true
}

// skip leaves in the state that the entry was skipped, so that a node that did not skip it is told from those that did.
func (w *writeTx) skip(index, sum uint64) error {
	key := binary.BigEndian.AppendUint64(nil, index)
	w.Writer.Add(tableSkipped, key, rows.NewRow(binary.BigEndian.AppendUint64(nil, sum)))
	return fmt.Errorf("log entry %d was skipped, as this node was told to", index)
}
