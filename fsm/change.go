package fsm

import (
	"coffer/secret"

	"coffer/refusal"
)

// Ref names a secret whose ARN the proposer has seen. A secret deleted and created anew under the name is another one.
type Ref struct {
	Account string `cbor:"1,keyasint"`
	Name    string `cbor:"2,keyasint"`
	Suffix  string `cbor:"3,keyasint"`
}

func refOf(s *secret.Secret) Ref { return Ref{s.Account, s.Name, s.Suffix} }

// alter loads the secret that ref names, lets do alter it, and stores it.
func (w *writeTx) alter(ref Ref, do func(*secret.Secret) error) (*secret.Secret, error) {
	s := w.ByName(ref.Account, ref.Name)
	if s == nil || s.Suffix != ref.Suffix {
		return nil, refusal.ErrConflict
	}
	if err := do(s); err != nil {
		return nil, err
	}
	w.putSecret(s)
	return s, nil
}

// change is alter for what a primary or a standalone secret is changed by, and its replicas follow.
func (w *writeTx) change(ref Ref, at int64, do func(*secret.Secret) error) (*secret.Secret, error) {
	return w.alter(ref, func(s *secret.Secret) error {
		if err := w.writable(s); err != nil {
			return err
		}
		if err := do(s); err != nil {
			return err
		}
		s.Changed = max(s.Changed, at)
		s.Revision++
		w.changed(s, at)
		return nil
	})
}

// live is change for a secret that is not scheduled for deletion.
func (w *writeTx) live(ref Ref, at int64, do func(*secret.Secret) error) (*secret.Secret, error) {
	return w.change(ref, at, func(s *secret.Secret) error {
		if s.Deleted != 0 {
			return secret.ErrMarkedForDeletion
		}
		return do(s)
	})
}

// putSecret stores s. Its index rows follow.
func (w *writeTx) putSecret(s *secret.Secret) {
	row := encode(s)
	stored := *s
	w.Remember(row.Payload(), &stored) // it is likely to be changed again in the same batch
	w.put(tableSecrets, secretKey(s.Account, s.Name), row)
}

// ByName is [Tx.ByName] for a secret that is about to be changed: it is shared with nobody.
func (w *writeTx) ByName(account, name string) *secret.Secret {
	s := w.Tx.ByName(account, name)
	if s == nil {
		return nil
	}
	own := *s
	return &own
}

// removeSecret deletes a secret with all that belongs to it.
func (w *writeTx) removeSecret(s *secret.Secret) {
	w.keepOnly(s, nil)
	w.unlink(s)
	w.remove(tableSecrets, secretKey(s.Account, s.Name))
}

// writable refuses changes of replicas.
func (w *writeTx) writable(s *secret.Secret) error {
	if s.Primary == "" {
		return nil
	}
	if l := w.Link(s.Primary, s); l != nil && l.HandOver != nil {
		return secret.ErrMoving
	}
	return secret.ErrReplica
}
