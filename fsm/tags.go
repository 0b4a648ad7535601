package fsm

import "coffer/secret"

// TagSecret attaches tags.
type TagSecret struct {
	Ref  Ref          `cbor:"1,keyasint"`
	At   int64        `cbor:"2,keyasint"`
	Tags []secret.Tag `cbor:"3,keyasint"`
}

// UntagSecret removes tags by key.
type UntagSecret struct {
	Ref  Ref      `cbor:"1,keyasint"`
	At   int64    `cbor:"2,keyasint"`
	Keys []string `cbor:"3,keyasint"`
}

func (c *TagSecret) apply(w *writeTx) (Outcome, error) {
	_, err := w.live(c.Ref, c.At, func(s *secret.Secret) error { return s.Tag(c.Tags) })
	return Outcome{}, err
}

func (c *UntagSecret) apply(w *writeTx) (Outcome, error) {
	_, err := w.live(c.Ref, c.At, func(s *secret.Secret) error {
		s.Untag(c.Keys)
		return nil
	})
	return Outcome{}, err
}
