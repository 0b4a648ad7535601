package fsm

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/hashicorp/raft"

	"coffer/secret"
)

var _ raft.BatchingFSM = (*Store)(nil)

// Apply applies one entry; Raft uses ApplyBatch.
func (s *Store) Apply(l *raft.Log) any { return s.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch applies entries in one transaction together with the index they reach. Entries that are
// already in the store are skipped. For each entry the answer is a []Outcome, one a command, or an error.
//
// A disk that refuses the commit is asked again until it takes it, since the entries are committed by
// the region and can't be dropped; meanwhile the node can't take writes (Err). Damage is never written.
func (s *Store) ApplyBatch(logs []*raft.Log) []any {
	answers := make([]any, len(logs))
	for {
		st, err := s.applyBatch(logs, answers)
		if err == nil {
			s.stuck.Store(nil)
			if st.index != 0 {
				s.moveTo(st)
			}
			return answers
		}
		if errors.Is(err, ErrDamaged) || errors.Is(err, ErrUnknownCommand) {
			s.fail(err)
			for i := range answers {
				answers[i] = err
			}
			return answers
		}
		err = fmt.Errorf("the disk of this node does not take writes: %w", err)
		s.stuck.Store(&err)
		s.log.Error("committed entries can't be stored; trying again", "error", err)
		select {
		case <-time.After(time.Second):
		case <-s.closing:
			for i := range answers {
				answers[i] = err
			}
			return answers
		}
	}
}

func (s *Store) applyBatch(logs []*raft.Log, answers []any) (st state, err error) {
	if err := s.damaged.Load(); err != nil {
		return st, *err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.position.Lock()
	before := s.position.state
	s.position.Unlock()

	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer recoverDamage(&err)
	tx, err := s.db.Begin(true)
	if err != nil {
		return st, err
	}
	defer func() { _ = tx.Rollback() }()

	w := &writeTx{Tx: Tx{tx: tx}, digest: before.digest}
	for i, l := range logs {
		if l.Type != raft.LogCommand || l.Index <= before.index {
			continue
		}
		w.index = l.Index
		outcomes, err := w.applyEntry(l.Data)
		if err != nil {
			return st, fmt.Errorf("log entry %d: %w", l.Index, err)
		}
		answers[i] = outcomes
		st.index, st.term = l.Index, l.Term
	}
	if st.index == 0 {
		return st, nil
	}
	st.digest = w.digest
	if err := tx.Bucket(tableNames[tableMeta]).Put(stateKey, st.row()); err != nil {
		return st, err
	}
	return st, tx.Commit()
}

func (w *writeTx) applyEntry(data []byte) ([]Outcome, error) {
	commands, err := DecodeEntry(data)
	if err != nil {
		return nil, err
	}
	outcomes := make([]Outcome, len(commands))
	for i, b := range commands {
		e, c, err := Decode(b)
		if err != nil {
			if !errors.Is(err, ErrUnknownCommand) {
				err = fmt.Errorf("%w: %w", ErrDamaged, err)
			}
			return nil, err
		}
		out, err := c.apply(w, e.ID)
		var refused *secret.Error
		if errors.As(err, &refused) {
			out = Outcome{Refused: &Refusal{refused.Kind, refused.Message}}
		} else if err != nil {
			return nil, err
		}
		outcomes[i] = out
	}
	return outcomes, nil
}

// writeTx is the transaction of a batch. Its rows keep the digest up to date.
type writeTx struct {
	Tx
	digest uint64
	index  uint64
}

func (w *writeTx) put(t table, key, payload []byte) error {
	b := w.bucket(t)
	if t != tableMeta {
		if old := b.Get(key); old != nil {
			w.digest -= t.sum(key, t.open(key, old))
		}
		w.digest += t.sum(key, payload)
	}
	return b.Put(key, seal(t, key, payload))
}

func (w *writeTx) remove(t table, key []byte) error {
	b := w.bucket(t)
	old := b.Get(key)
	if old == nil {
		panic(t.damaged(key, "is missing"))
	}
	w.digest -= t.sum(key, t.open(key, old))
	return b.Delete(key)
}

// putSecret stores s, whose stored form until now was old (nil for a new secret), and moves its index rows.
func (w *writeTx) putSecret(old, s *secret.Secret) error {
	for _, index := range []struct {
		t  table
		at func(*secret.Secret) int64
	}{
		{tableByCreated, func(s *secret.Secret) int64 { return s.Created }},
		{tableByChanged, func(s *secret.Secret) int64 { return s.Changed }},
		{tableByAccessed, func(s *secret.Secret) int64 { return s.AccessedDay }},
	} {
		if old != nil {
			if s != nil && index.at(old) == index.at(s) {
				continue
			}
			if err := w.remove(index.t, timeKey(old.Account, index.at(old), old.Name)); err != nil {
				return err
			}
		}
		if s != nil {
			if err := w.put(index.t, timeKey(s.Account, index.at(s), s.Name), nil); err != nil {
				return err
			}
		}
	}
	if old != nil && old.Deleted != 0 {
		if err := w.remove(tableByDeletion, deletionKey(old.Deleted, old.Account, old.Name)); err != nil {
			return err
		}
	}
	if s == nil {
		return w.remove(tableSecrets, secretKey(old.Account, old.Name))
	}
	if s.Deleted != 0 {
		if err := w.put(tableByDeletion, deletionKey(s.Deleted, s.Account, s.Name), nil); err != nil {
			return err
		}
	}
	return w.put(tableSecrets, secretKey(s.Account, s.Name), encode(s))
}

// removeSecret deletes a secret with all that belongs to it.
func (w *writeTx) removeSecret(s *secret.Secret) error {
	var ids []string
	w.Versions(s, "", func(v *secret.Version) bool {
		ids = append(ids, v.ID)
		return true
	})
	for _, id := range ids {
		if err := w.removeVersion(s, id); err != nil {
			return err
		}
	}
	return w.putSecret(s, nil)
}

func (w *writeTx) removeVersion(s *secret.Secret, id string) error {
	key := versionKey(s.Account, s.Name, id)
	if err := w.remove(tableVersions, key); err != nil {
		return err
	}
	return w.remove(tableValues, key)
}

// checkpoints are the digests of the last few Checkpoint commands, kept outside the digest.
var checkpointsKey = []byte("checkpoints")

const keptCheckpoints = 8

// CheckpointDigest is the digest of a node's state at a Checkpoint's entry.
type CheckpointDigest struct {
	Index  uint64 `cbor:"1,keyasint" json:"index"`
	Digest uint64 `cbor:"2,keyasint" json:"digest"`
}

func (c *Checkpoint) apply(w *writeTx, _ commandID) (Outcome, error) {
	kept := append(w.Checkpoints(), CheckpointDigest{w.index, w.digest})
	if len(kept) > keptCheckpoints {
		kept = kept[1:]
	}
	return Outcome{}, w.put(tableMeta, checkpointsKey, encode(kept))
}

// Checkpoints lists the last few checkpoints, oldest first.
func (t *Tx) Checkpoints() []CheckpointDigest {
	var kept []CheckpointDigest
	t.get(tableMeta, checkpointsKey, &kept)
	return kept
}
