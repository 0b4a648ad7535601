package fsm

import (
	"errors"

	"github.com/cespare/xxhash/v2"
	"github.com/hashicorp/raft"

	"coffer/mistake"
	"coffer/refusal"
	"coffer/rows"
)

var _ raft.BatchingFSM = (*Store)(nil)

// Apply applies one entry; Raft uses ApplyBatch.
func (s *Store) Apply(l *raft.Log) any { return s.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch applies entries. Entries that are already in the store are skipped. For each entry the answer
// is a []Outcome, one a command, or an error. The rows are written to the file later, together with the
// index they reach (Flush); until then reads find them in memory, and a crash replays them from the log.
//
// An entry that can't be applied, though it is what was proposed, ends the applying there and changes nothing: see
// [Store.Halted]. No later entry is applied either, since its outcome depends on those before. One that is skipped is
// the last, too, until [Store.GoOn].
func (s *Store) ApplyBatch(logs []*raft.Log) []any {
	s.changing.Lock()
	defer s.changing.Unlock()
	if len(logs) > 0 {
		s.given = max(s.given, logs[len(logs)-1].Index)
	}
	answers := make([]any, len(logs))
	s.apply(logs, answers)
	return answers
}

// apply applies entries, and stops where it has to.
func (s *Store) apply(logs []*raft.Log, answers []any) {
	for len(logs) > 0 {
		if err := s.ended.Load(); err != nil {
			all(answers, *err)
			return
		}
		part := len(logs) // through the first that this node was told to skip
		for i, l := range logs {
			if _, told := s.skip[l.Index]; told {
				part = i + 1
				break
			}
		}
		s.applyThrough(logs[:part], answers[:part])
		logs, answers = logs[part:], answers[part:]
	}
}

// applyThrough applies entries of which none before the last is skipped.
func (s *Store) applyThrough(logs []*raft.Log, answers []any) {
	err := s.applyBatch(logs, answers)
	var halt *haltedError
	if errors.As(err, &halt) { // what comes before it is decided again, without it
		if err = s.applyBatch(logs[:halt.at], answers); err == nil {
			s.halt(halt)
			all(answers[halt.at:], halt)
			return
		}
	}
	if _, told := s.skip[logs[len(logs)-1].Index]; err == nil && told {
		err = s.waitBehindSkipped()
	}
	if err != nil {
		s.ended.CompareAndSwap(nil, &err)
		all(answers, err)
	}
}

func all(answers []any, err error) {
	for i := range answers {
		answers[i] = err
	}
}

// progress is how far a batch has come, and what is refused of it.
type progress struct {
	entry, command int // the command is noCommand behind the entry's last one
	tooLarge       map[[2]int]bool
}

const noCommand = -1

func (s *Store) applyBatch(logs []*raft.Log, answers []any) error {
	p := &progress{}
	for {
		err := mistake.Catch(s.log, "applying a log entry panicked", func() error { return s.update(logs, answers, p) })
		if errors.Is(err, rows.ErrTooLarge) && p.command != noCommand { // on all nodes alike
			s.log.Warn("a command is refused, since what it would store is too large", "index", logs[p.entry].Index,
				"command", p.command, "error", err)
			if p.tooLarge == nil {
				p.tooLarge = map[[2]int]bool{}
			}
			p.tooLarge[[2]int{p.entry, p.command}] = true
			continue
		}
		for _, own := range []error{rows.ErrContradiction, rows.ErrTooLarge, mistake.Err} {
			if errors.Is(err, own) { // all nodes make it at this entry
				return s.cannot(logs, p.entry, err)
			}
		}
		return err
	}
}

// update applies entries in one transaction.
func (s *Store) update(logs []*raft.Log, answers []any, p *progress) error {
	return s.rows.Update(func(r *rows.Writer) (err error) {
		w := &writeTx{Tx: Tx{r.Tx}, Writer: r, proposals: s.proposals}
		if w.proposals == nil {
			w.proposals = w.readProposals()
		}
		s.proposals = nil // it is ahead of the state until all entries are applied
		defer s.applying.Store(nil)
		applied := r.Position().Index
		for i, l := range logs {
			if l.Index <= applied {
				continue
			}
			p.entry = i
			switch l.Type {
			case raft.LogConfiguration:
				r.Configure(l.Index, l.Data)
			case raft.LogCommand:
				s.applying.Store(l)
				if answers[i], err = s.applyEntry(w, l, p); err != nil {
					return s.cannot(logs, i, err)
				}
			default:
				continue
			}
			r.Reach(l.Index, l.Term)
		}
		s.proposals = w.proposals
		return nil
	})
}

func (s *Store) applyEntry(w *writeTx, l *raft.Log, p *progress) (answer any, err error) {
	sum, err := EntrySum(l.Data)
	if err != nil {
		return nil, err
	}
	if skipped, ok := s.skip[l.Index]; ok && skipped == sum {
		return w.skip(l.Index, sum), nil
	}
	commands, err := DecodeEntry(l.Data)
	if err != nil {
		return nil, err
	}
	w.index, w.term, w.placed, w.carriedOut = l.Index, l.Term, 0, nil
	outcomes := make([]Outcome, len(commands))
	decoded := s.expected(l.Data)
	for i, b := range commands {
		var d Decoded
		if decoded != nil {
			d = decoded[i]
		} else if d, err = Decode(b); err != nil {
			return nil, err
		}
		if p.command = i; p.tooLarge[[2]int{p.entry, i}] {
			outcomes[i] = Outcome{Refused: refusal.New(refusal.KindValidation, "What it would store is too large.")}
			continue
		}
		if outcomes[i], err = w.carryOut(d, xxhash.Sum64(b)); err != nil {
			return nil, err
		}
	}
	p.command = noCommand
	w.keepProposals()
	return outcomes, nil
}

// carryOut applies one command of the entry, whose bytes have the checksum sum, unless it was carried out before or may
// have been.
func (w *writeTx) carryOut(d Decoded, sum uint64) (Outcome, error) {
	if out, found := w.recall(d.ID, sum); found {
		return out, nil
	}
	if why := w.late(d.Base, d.Command); why != "" {
		return Outcome{Unknown: why}, nil
	}
	if need := FormatOf(d.Command); need > FirstFormat && need > w.Format() {
		return Outcome{Refused: refusal.Of(ErrFormat(need, w.Format()))}, nil
	}
	w.request, w.added, w.removed = d.ID[:], nil, false
	out, err := d.Command.apply(w)
	if refused := refusal.Of(err); refused != nil {
		return Outcome{Refused: refused}, nil
	} else if err != nil {
		return Outcome{}, err
	}
	w.remember(d.ID, sum, out)
	return out, nil
}
