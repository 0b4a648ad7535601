package fsm

import "coffer/secret"

// Promote makes a replica a standalone secret, or a primary with Links. It ends its link for ever.
type Promote struct {
	Ref   Ref              `cbor:"1,keyasint"`
	At    int64            `cbor:"2,keyasint"`
	Links []secret.NewLink `cbor:"3,keyasint,omitempty"`
	// Lost is the region of the lost primary, if that is why: the secret remembers it. Only its replicas are promoted.
	Lost string `cbor:"4,keyasint,omitempty"`
}

func (c *Promote) apply(w *writeTx) (Outcome, error) {
	_, err := w.alter(c.Ref, func(s *secret.Secret) error {
		if s.Primary == "" || c.Lost != "" && s.Primary != c.Lost {
			return secret.ErrNotReplica
		}
		r := w.Replica(s)
		w.end(r.Link, c.At)
		w.notify(s.Primary, &Notice{Kind: LinkEnded, Link: r.Link, Ref: refOf(s), Since: c.At, Request: w.request})
		origin := &secret.Origin{Region: s.Primary, Epoch: r.Epoch, Revision: r.Revision}
		w.unlink(s)
		s.Primary, s.Origin = "", nil
		if c.Lost != "" {
			s.Origin = origin
		}
		s.Revision++
		w.addLinks(s, c.Links, c.At)
		return nil
	})
	return Outcome{}, err
}
