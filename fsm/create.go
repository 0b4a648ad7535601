package fsm

import (
	"coffer/secret"

	"coffer/refusal"
)

// CreateSecret makes a secret, with its first version if Version is there.
type CreateSecret struct {
	Ref         Ref          `cbor:"1,keyasint"`
	At          int64        `cbor:"2,keyasint"`
	Description string       `cbor:"3,keyasint,omitempty"`
	Tags        []secret.Tag `cbor:"4,keyasint,omitempty"`
	Version     *NewVersion  `cbor:"5,keyasint,omitempty"`
	KeyID       string       `cbor:"6,keyasint,omitempty"` // of the KMS key; the default key's if empty

	Links []secret.NewLink `cbor:"7,keyasint,omitempty"`
}

func (c *CreateSecret) apply(w *writeTx) (Outcome, error) {
	if old := w.ByName(c.Ref.Account, c.Ref.Name); old != nil {
		switch {
		case old.Deleted != 0:
			return Outcome{}, secret.ErrNameScheduled
		case c.Version != nil && w.Version(old, c.Version.ID) != nil:
			return Outcome{}, refusal.ErrConflict // perhaps the same request, made again: compare the values
		}
		return Outcome{}, secret.ErrExists(c.Ref.Name)
	}
	s := &secret.Secret{
		Account: c.Ref.Account, Name: c.Ref.Name, Suffix: c.Ref.Suffix,
		Description: c.Description, Created: c.At, Changed: c.At, KeyID: c.KeyID,
	}
	if err := s.Tag(c.Tags); err != nil {
		return Outcome{}, err
	}
	if c.Version != nil {
		if err := w.addVersion(s, c.Version, []string{secret.Current}, c.At); err != nil {
			return Outcome{}, err
		}
	}
	s.Revision = 1
	w.addLinks(s, c.Links, c.At)
	w.putSecret(s)
	return created(s, c.Version), nil
}

func created(s *secret.Secret, v *NewVersion) Outcome {
	if v == nil {
		return Outcome{}
	}
	return Outcome{Labels: s.LabelsOf(v.ID)}
}
