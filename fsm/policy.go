package fsm

import "coffer/secret"

// SetPolicy stores the resource policy; an empty one removes it.
type SetPolicy struct {
	Ref    Ref    `cbor:"1,keyasint"`
	At     int64  `cbor:"2,keyasint"`
	Policy string `cbor:"3,keyasint,omitempty"`
}

func (c *SetPolicy) apply(w *writeTx) (Outcome, error) {
	_, err := w.live(c.Ref, c.At, func(s *secret.Secret) error {
		s.Policy = c.Policy
		return nil
	})
	return Outcome{}, err
}
