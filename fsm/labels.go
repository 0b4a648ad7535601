package fsm

import "coffer/secret"

// MoveLabel takes Label from version From and puts it on version To (secret.Secret.MoveLabel).
type MoveLabel struct {
	Ref   Ref    `cbor:"1,keyasint"`
	At    int64  `cbor:"2,keyasint"`
	Label string `cbor:"3,keyasint"`
	From  string `cbor:"4,keyasint,omitempty"`
	To    string `cbor:"5,keyasint,omitempty"`
}

func (c *MoveLabel) apply(w *writeTx) (Outcome, error) {
	_, err := w.live(c.Ref, c.At, func(s *secret.Secret) error {
		for _, version := range []string{c.To, c.From} {
			if version != "" && w.Version(s, version) == nil {
				return secret.ErrNoVersion(version)
			}
		}
		return s.MoveLabel(c.Label, c.From, c.To)
	})
	return Outcome{}, err
}
