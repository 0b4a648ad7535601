package fsm

import (
	"coffer/secret"

	"coffer/refusal"
)

// LinkAnswer is a replica region's answer to a state.
type LinkAnswer struct {
	Ref         Ref          `cbor:"1,keyasint"`
	Link        string       `cbor:"2,keyasint"`
	Revision    uint64       `cbor:"3,keyasint,omitempty"` // that the replica has; 0 if it refused
	ReadAt      int64        `cbor:"4,keyasint,omitempty"` // when the state was read here
	KeyID       string       `cbor:"5,keyasint,omitempty"` // the replica's KMS key
	AccessedDay int64        `cbor:"6,keyasint,omitempty"`
	TookOver    bool         `cbor:"9,keyasint,omitempty"` // the replica is the primary now
	Refused     refusal.Kind `cbor:"7,keyasint,omitempty"`
	Why         string       `cbor:"8,keyasint,omitempty"`
}

// Settle records what another region answered.
type Settle struct {
	Region  string       `cbor:"1,keyasint"`
	At      int64        `cbor:"2,keyasint"`
	Answers []LinkAnswer `cbor:"3,keyasint,omitempty"`
	Notices []string     `cbor:"4,keyasint,omitempty"` // links whose notices have arrived
}

func (c *Settle) apply(w *writeTx) (Outcome, error) {
	for i := range c.Answers {
		w.settle(c.Region, &c.Answers[i], c.At)
	}
	for _, link := range c.Notices {
		w.discard(tableOutbox, noticeKey(c.Region, link))
	}
	return Outcome{}, nil
}

func (w *writeTx) settle(region string, a *LinkAnswer, at int64) {
	s := w.ByName(a.Ref.Account, a.Ref.Name)
	if s == nil || s.Suffix != a.Ref.Suffix {
		return
	}
	l := w.Link(region, s)
	if l == nil || l.ID != a.Link {
		return
	}
	key := regionKey(region, s.Account, s.Name)
	switch {
	case a.Refused == secret.KindEnded, a.TookOver:
		w.dropLink(s, region)
		w.putSecret(s)
		return
	case a.Refused == secret.KindIncomplete:
		l.Acked = 0
		w.lag(s, region, at, nil, true)
	case a.Refused == secret.KindStale: // another leader sends by now, or this one tries again
		return
	case a.Refused != "":
		if l.Failed == a.Why {
			return
		}
		l.Failed = a.Why
	default:
		l.Acked, l.AckedAt, l.AccessedDay = max(l.Acked, a.Revision), at, max(l.AccessedDay, a.AccessedDay)
		l.Failed, l.Overwrite = "", false
		if a.KeyID != "" || l.KeyID != "" {
			l.KeyID = a.KeyID
		}
		if l.HandOver == nil {
			w.acknowledge(s, region, l.Acked, a.ReadAt)
		}
	}
	w.put(tableLinks, key, encode(l))
}
