package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/cespare/xxhash/v2"
	"github.com/hashicorp/raft"

	"coffer/secret"
)

var _ raft.BatchingFSM = (*Store)(nil)

// Apply applies one entry; Raft uses ApplyBatch.
func (s *Store) Apply(l *raft.Log) any { return s.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch applies entries. Entries that are already in the store are skipped. For each entry the answer
// is a []Outcome, one a command, or an error. The rows are written to the file later, together with the
// index they reach (Flush); until then reads find them in memory, and a crash replays them from the log.
func (s *Store) ApplyBatch(logs []*raft.Log) []any {
	answers := make([]any, len(logs))
	if err := s.awaitRoom(); err != nil {
		return all(answers, err)
	}
	if err := s.applyBatch(logs, answers); err != nil {
		s.fail(err)
		return all(answers, err)
	}
	return answers
}

func all(answers []any, err error) []any {
	for i := range answers {
		answers[i] = err
	}
	return answers
}

func (s *Store) applyBatch(logs []*raft.Log, answers []any) (err error) {
	if err := s.damaged.Load(); err != nil {
		return *err
	}
	s.position.Lock()
	before := s.position.state
	s.position.Unlock()

	st := state{}
	batch := newLayer()
	if err := s.decide(logs, answers, before, batch, &st); err != nil || st.index == 0 {
		return err
	}
	s.publish(batch, st)
	return nil
}

// decide applies entries to batch, over the state as it is, and says how far they reach.
func (s *Store) decide(logs []*raft.Log, answers []any, before state, batch *layer, st *state) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer recoverDamage(&err)
	s.swap.RLock()
	defer s.swap.RUnlock()
	s.mu.RLock()
	tx, err := s.db.Begin(false)
	w := &writeTx{Tx: Tx{tx: tx, layers: [4]*layer{batch, s.active, s.flushing}}, digest: before.digest}
	s.mu.RUnlock()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if s.proposals == nil {
		s.proposals = w.readProposals()
	}
	w.proposals, s.proposals = s.proposals, nil // it is ahead of the state until all entries are applied
	for i, l := range logs {
		if l.Type != raft.LogCommand || l.Index <= before.index {
			continue
		}
		w.index, w.term, w.placed, w.carriedOut = l.Index, l.Term, 0, nil
		outcomes, err := w.applyEntry(l.Data)
		if err != nil {
			return fmt.Errorf("log entry %d: %w", l.Index, err)
		}
		answers[i] = outcomes
		st.index, st.term = l.Index, l.Term
	}
	st.digest, s.proposals = w.digest, w.proposals
	return nil
}

func (w *writeTx) applyEntry(data []byte) ([]Outcome, error) {
	commands, err := DecodeEntry(data)
	if err != nil {
		return nil, err
	}
	outcomes := make([]Outcome, len(commands))
	for i, b := range commands {
		if outcomes[i], err = w.carryOut(b); err != nil {
			return nil, err
		}
	}
	w.keepProposals()
	return outcomes, nil
}

// carryOut applies one command of the entry, unless it was carried out before or may have been.
func (w *writeTx) carryOut(command []byte) (Outcome, error) {
	e, c, err := Decode(command)
	if err != nil {
		if !errors.Is(err, ErrUnknownCommand) {
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return Outcome{}, err
	}
	id, sum := ID(e.ID), xxhash.Sum64(command)
	if out, found := w.recall(id, sum); found {
		return out, nil
	}
	if why := w.late(e.Base, c); why != "" {
		return Outcome{Unknown: why}, nil
	}
	if need := FormatOf(c); need > FirstFormat && need > w.Format() {
		return Outcome{Refused: refusal(ErrFormat(need, w.Format()))}, nil
	}
	w.request, w.added, w.removed = e.ID, nil, false
	out, err := c.apply(w)
	if refused := refusal(err); refused != nil {
		return Outcome{Refused: refused}, nil
	} else if err != nil {
		return Outcome{}, err
	}
	w.remember(id, sum, out)
	return out, nil
}

// writeTx is the transaction of a batch: it writes to the first of its layers and keeps the digest up to date.
type writeTx struct {
	Tx
	digest uint64
	index  uint64 // of the entry being applied
	term   uint64 // of it
	placed uint64 // values added by it

	proposals  *proposals
	carriedOut []byte // by the entry: its row of tableProposals

	request []byte // id of the command that is being applied
	// What it did to the versions of its secret.
	added   []string
	removed bool
}

// atomically calls do: when it fails, nothing of what it wrote stays.
func (w *writeTx) atomically(do func() error) error {
	digest, placed, layers := w.digest, w.placed, w.layers
	w.layers = [4]*layer{newLayer(), layers[0], layers[1], layers[2]}
	err := do()
	scratch := w.layers[0]
	w.layers = layers
	if err != nil {
		w.digest, w.placed = digest, placed
		return err
	}
	for t, rows := range scratch.rows {
		for key, row := range rows {
			w.layers[0].set(table(t), []byte(key), row)
		}
	}
	return nil
}

func (w *writeTx) put(t table, key, payload []byte) {
	if old := w.row(t, key); old != nil && t != tableMeta {
		w.digest -= storedSum(t, key, old)
	}
	w.add(t, key, payload)
}

// add is put for a key that has no row.
func (w *writeTx) add(t table, key, payload []byte) {
	row := seal(t, key, payload)
	if t != tableMeta {
		w.digest += binary.BigEndian.Uint64(row)
	}
	w.layers[0].set(t, key, row)
}

func (w *writeTx) remove(t table, key []byte) {
	old := w.row(t, key)
	if old == nil {
		panic(t.damaged(key, "is missing"))
	}
	w.digest -= storedSum(t, key, old)
	w.layers[0].set(t, key, nil)
}

// storedSum is a stored row's checksum, verified.
func storedSum(t table, key, row []byte) uint64 {
	t.open(key, row)
	return binary.BigEndian.Uint64(row)
}

// putSecret stores s, whose stored form until now was old (nil for a new secret), and moves its index rows.
func (w *writeTx) putSecret(old, s *secret.Secret) {
	for _, index := range []struct {
		t  table
		at func(*secret.Secret) int64
	}{
		{tableByCreated, func(s *secret.Secret) int64 { return s.Created }},
		{tableByChanged, func(s *secret.Secret) int64 { return s.Changed }},
		{tableByAccessed, func(s *secret.Secret) int64 { return s.AccessedDay }},
	} {
		if old != nil && old.Displaced == nil {
			if s != nil && index.at(old) == index.at(s) {
				continue
			}
			w.remove(index.t, timeKey(old.Account, index.at(old), old.Name))
		}
		if s != nil && s.Displaced == nil {
			w.add(index.t, timeKey(s.Account, index.at(s), s.Name), nil)
		}
	}
	if old != nil && old.Deleted != 0 {
		w.remove(tableByDeletion, deletionKey(old.Deleted, old.Account, old.Name))
	}
	if s == nil {
		w.remove(tableSecrets, secretKey(old.Account, old.Name))
		return
	}
	if s.Deleted != 0 {
		w.add(tableByDeletion, deletionKey(s.Deleted, s.Account, s.Name), nil)
	}
	w.put(tableSecrets, secretKey(s.Account, s.Name), encode(s))
}

// removeSecret deletes a secret with all that belongs to it.
func (w *writeTx) removeSecret(s *secret.Secret) {
	w.keepOnly(s, nil)
	w.unlink(s)
	w.putSecret(s, nil)
}

func (w *writeTx) removeVersion(s *secret.Secret, v secret.Version) {
	w.remove(tableVersions, versionKey(s.Account, s.Name, v.ID))
	w.remove(tableValues, valueKey(s.Account, v.Place))
	w.removed = true
}

// place is where the next value of the batch goes: after all values of earlier entries.
func (w *writeTx) place() uint64 {
	w.placed++
	return w.index<<placeBits | w.placed
}

// placeBits bounds the values of one entry: more than its commands can add.
const placeBits = 16

// checkpoints are the digests of the last few Checkpoint commands, kept outside the digest.
var checkpointsKey = []byte("checkpoints")

const keptCheckpoints = 8

// CheckpointDigest is the digest of a node's state at a Checkpoint's entry.
type CheckpointDigest struct {
	Index  uint64 `cbor:"1,keyasint" json:"index"`
	Digest uint64 `cbor:"2,keyasint" json:"digest"`
}

func (c *Checkpoint) apply(w *writeTx) (Outcome, error) {
	kept := append(w.Checkpoints(), CheckpointDigest{w.index, w.digest})
	if len(kept) > keptCheckpoints {
		kept = kept[1:]
	}
	w.put(tableMeta, checkpointsKey, encode(kept))
	return Outcome{}, nil
}

// Checkpoints lists the last few checkpoints, oldest first.
func (t *Tx) Checkpoints() []CheckpointDigest {
	var kept []CheckpointDigest
	t.get(tableMeta, checkpointsKey, &kept)
	return kept
}
