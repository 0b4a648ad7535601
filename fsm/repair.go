package fsm

import "coffer/secret"

// LinkRef names a link.
type LinkRef struct {
	Ref  Ref    `cbor:"1,keyasint"`
	Link string `cbor:"2,keyasint"`
}

// LinkAccess is the last day on which a link's replica was read.
type LinkAccess struct {
	LinkRef
	Day int64 `cbor:"3,keyasint"`
}

// Repair has everything sent again that the comparison of two regions found to differ.
type Repair struct {
	Region   string       `cbor:"1,keyasint"`
	At       int64        `cbor:"2,keyasint"`
	Links    []LinkRef    `cbor:"3,keyasint,omitempty"`
	Accessed []LinkAccess `cbor:"4,keyasint,omitempty"` // replicas read on a later day than was known
}

func (c *Repair) apply(w *writeTx) (Outcome, error) {
	done := 0
	link := func(ref LinkRef, do func(*secret.Secret, *secret.Link)) {
		s := w.ByName(ref.Ref.Account, ref.Ref.Name)
		if s == nil || s.Suffix != ref.Ref.Suffix {
			return
		}
		if l := w.Link(c.Region, s); l != nil && l.ID == ref.Link {
			do(s, l)
			w.put(tableLinks, regionKey(c.Region, s.Account, s.Name), encode(l))
		}
	}
	for _, r := range c.Links {
		link(r, func(s *secret.Secret, l *secret.Link) {
			l.Acked = 0
			w.lag(s, c.Region, c.At, nil, true)
			done++
		})
	}
	for _, a := range c.Accessed {
		link(a.LinkRef, func(_ *secret.Secret, l *secret.Link) { l.AccessedDay = max(l.AccessedDay, a.Day) })
	}
	return Outcome{Count: done}, nil
}

// sendAllAgain makes all links to region, or to all regions, lag from their beginning.
func (w *writeTx) sendAllAgain(region string, at int64) {
	type lagging struct {
		region string
		s      *secret.Secret
		l      *secret.Link
	}
	var all []lagging
	w.Links(region, func(region string, s *secret.Secret, l *secret.Link) bool {
		all = append(all, lagging{region, s, l})
		return true
	})
	for _, a := range all {
		a.l.Acked = 0
		w.put(tableLinks, regionKey(a.region, a.s.Account, a.s.Name), encode(a.l))
		w.lag(a.s, a.region, at, nil, true)
	}
}
