package fsm

import (
	"bytes"
	"coffer/secret"
	"encoding/binary"
)

// ScheduleDeletion starts the recovery window, which ends at Due.
type ScheduleDeletion struct {
	Ref Ref   `cbor:"1,keyasint"`
	At  int64 `cbor:"2,keyasint"`
	Due int64 `cbor:"3,keyasint"`
}

// CancelDeletion ends the recovery window; the secret is live again.
type CancelDeletion struct {
	Ref Ref   `cbor:"1,keyasint"`
	At  int64 `cbor:"2,keyasint"`
}

// DeleteNow deletes a secret, live or scheduled, for good.
type DeleteNow struct {
	Ref Ref `cbor:"1,keyasint"`
}

// PurgeDue deletes for good at most Max secrets whose recovery window ended before At.
type PurgeDue struct {
	At  int64 `cbor:"1,keyasint"`
	Max int   `cbor:"2,keyasint"`
}

func (c *ScheduleDeletion) apply(w *writeTx) (Outcome, error) {
	_, err := w.live(c.Ref, c.At, func(s *secret.Secret) error {
		s.Deleted = c.Due
		return w.deletable(s)
	})
	return Outcome{}, err
}

func (c *CancelDeletion) apply(w *writeTx) (Outcome, error) {
	_, err := w.change(c.Ref, c.At, func(s *secret.Secret) error {
		s.Deleted = 0
		return nil
	})
	return Outcome{}, err
}

func (c *DeleteNow) apply(w *writeTx) (Outcome, error) {
	s := w.ByName(c.Ref.Account, c.Ref.Name)
	if s == nil || s.Suffix != c.Ref.Suffix {
		return Outcome{}, nil
	}
	if err := w.deletable(s); err != nil {
		return Outcome{}, err
	}
	w.removeSecret(s)
	return Outcome{}, nil
}

func (c *PurgeDue) apply(w *writeTx) (Outcome, error) {
	var due []*secret.Secret
	for k := range w.Ascend(tableByDeletion, nil) {
		if len(due) == c.Max || int64(binary.BigEndian.Uint64(k)) > c.At {
			break
		}
		account, name, _ := bytes.Cut(k[8:], []byte{0})
		s := w.ByName(string(account), string(name))
		if s == nil {
			tableByDeletion.Contradicts(k, "names a secret that is missing")
		}
		due = append(due, s)
	}
	for _, s := range due {
		w.removeSecret(s)
	}
	return Outcome{Count: len(due)}, nil
}

// OldestDeletion is the earliest end of a recovery window, false when no secret is scheduled for deletion.
func (t *Tx) OldestDeletion() (at int64, ok bool) {
	for k := range t.Ascend(tableByDeletion, nil) {
		return int64(binary.BigEndian.Uint64(k)), true
	}
	return 0, false
}

// deletable refuses the deletion of replicas and of what has replicas.
func (w *writeTx) deletable(s *secret.Secret) error {
	if err := w.writable(s); err != nil {
		return err
	}
	if len(s.Replicas) > 0 {
		return secret.ErrHasReplicas
	}
	return nil
}
