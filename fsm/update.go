package fsm

import (
	"coffer/secret"

	"coffer/refusal"
)

// UpdateSecret changes the description and the KMS key, and adds a current version, where they are there.
type UpdateSecret struct {
	Ref         Ref         `cbor:"1,keyasint"`
	At          int64       `cbor:"2,keyasint"`
	Description *string     `cbor:"3,keyasint,omitempty"`
	Version     *NewVersion `cbor:"4,keyasint,omitempty"`
	Key         *NewKey     `cbor:"5,keyasint,omitempty"`
}

// NewKey puts a secret under another KMS key.
type NewKey struct {
	KeyID    string      `cbor:"1,keyasint,omitempty"` // the default key's if empty
	Revision uint64      `cbor:"2,keyasint"`           // of the secret that Rewraps were made for
	Rewraps  []Rewrapped `cbor:"3,keyasint,omitempty"`
}

// Rewrapped is a version's data key, wrapped anew.
type Rewrapped struct {
	Version    string `cbor:"1,keyasint"`
	KeyID      string `cbor:"2,keyasint"`
	WrappedKey []byte `cbor:"3,keyasint"`
}

func (c *UpdateSecret) apply(w *writeTx) (Outcome, error) {
	if s := w.ByName(c.Ref.Account, c.Ref.Name); s != nil && s.Primary != "" && c.Version == nil && c.Description == nil &&
		c.Key != nil {
		return Outcome{}, c.rekeyReplica(w)
	}
	err := w.atomically(func() error {
		_, err := w.live(c.Ref, c.At, func(s *secret.Secret) error {
			if c.Key != nil {
				if err := w.moveToKey(s, c.Key, c.At); err != nil {
					return err
				}
			}
			if c.Description != nil {
				s.Description = *c.Description
			}
			if c.Version != nil {
				return w.addVersion(s, c.Version, []string{secret.Current}, c.At)
			}
			return nil
		})
		return err
	})
	return Outcome{}, err
}

// rekeyReplica changes the one thing of a replica that is its own: its KMS key.
func (c *UpdateSecret) rekeyReplica(w *writeTx) error {
	return w.atomically(func() error {
		_, err := w.alter(c.Ref, func(s *secret.Secret) error {
			if err := w.moveToKey(s, c.Key, c.At); err != nil {
				return err
			}
			s.Revision++
			return nil
		})
		return err
	})
}

// moveToKey puts s under another KMS key, with the versions whose data keys were wrapped anew for it.
func (w *writeTx) moveToKey(s *secret.Secret, to *NewKey, at int64) error {
	if s.Revision != to.Revision {
		return refusal.ErrConflict
	}
	for _, r := range to.Rewraps {
		if err := w.usable(s.Account, r.KeyID, at); err != nil {
			return err
		}
		if !w.rewrap(s, r) {
			return refusal.ErrConflict
		}
	}
	s.KeyID = to.KeyID
	return nil
}

// rewrap replaces the wrapped data key of a version, and reports whether the version is there.
func (w *writeTx) rewrap(s *secret.Secret, r Rewrapped) bool {
	v := w.Version(s, r.Version)
	if v == nil {
		return false
	}
	value := w.Value(s, v)
	if value == nil {
		return false
	}
	value.WrappedKey = r.WrappedKey
	w.put(tableValues, valueKey(s.Account, v.Place), encode(value))
	if v.KeyID != r.KeyID {
		v.KeyID = r.KeyID
		w.put(tableVersions, versionKey(s.Account, s.Name, v.ID), encode(v))
	}
	return true
}
