package fsm

import (
	"slices"

	"coffer/secret"
)

// The outbox is an index of what other regions have not acknowledged: per region, the secrets whose state is ahead of
// their link's acknowledged revision, and notices about links. It is bounded by the number of links, not by that of
// changes, and is in the state like everything else: no leader's end loses it.
//
// Keys begin with the region and the kind of what is sent, so that other things than secrets can travel the same way.
const (
	outboxNotice byte = 'n'
	outboxState  byte = 's'
)

// NoticeKind is what a notice tells.
type NoticeKind byte

// The notices.
const (
	LinkRemoved NoticeKind = 1 // from the primary's region: the link has ended, its replica is to be deleted
	LinkEnded   NoticeKind = 2 // from the replica's region: the replica was promoted, or follows another primary
	LinkMoved   NoticeKind = 3 // from the primary's region: the replica's primary is Primary from now on, by NewLink
)

// Notice tells another region something about a link. It is sent until it has arrived.
type Notice struct {
	Kind    NoticeKind `cbor:"1,keyasint"`
	Link    string     `cbor:"2,keyasint"`
	Ref     Ref        `cbor:"3,keyasint"`
	Primary string     `cbor:"4,keyasint,omitempty"`
	NewLink string     `cbor:"5,keyasint,omitempty"`
	Since   int64      `cbor:"6,keyasint"`
	Request []byte     `cbor:"7,keyasint,omitempty"`
}

func noticeKey(region, link string) []byte {
	return append(append([]byte(region), 0, outboxNotice), link...)
}

func (w *writeTx) notify(region string, n *Notice) {
	w.put(tableOutbox, noticeKey(region, n.Link), encode(n))
}

// ReceiveNotice is what another region tells about a link.
type ReceiveNotice struct {
	From   Sender `cbor:"1,keyasint"`
	At     int64  `cbor:"2,keyasint"`
	Notice Notice `cbor:"3,keyasint"`
}

func (c *ReceiveNotice) apply(w *writeTx) (Outcome, error) {
	if err := w.fence(c.From); err != nil {
		return Outcome{}, err
	}
	n := &c.Notice
	s := w.ByName(n.Ref.Account, n.Ref.Name)
	same := s != nil && s.Suffix == n.Ref.Suffix
	if n.Kind == LinkEnded {
		if same && s.Primary != c.From.Region && slices.Contains(s.Replicas, c.From.Region) &&
			w.Link(c.From.Region, s).ID == n.Link {
			w.dropLink(s, c.From.Region)
			w.putSecret(s)
		}
		return Outcome{}, nil
	}
	follows := same && s.Primary == c.From.Region && w.Replica(s).Link == n.Link
	if n.Kind == LinkMoved && !follows && same && s.Primary != "" && s.Primary != n.Primary && !w.Ended(n.Link) {
		return Outcome{}, secret.ErrStale // the notice that the primary's role came to the sender is still on its way
	}
	w.end(n.Link, c.At) // a state that is still on its way must not bring the replica back
	switch {
	case !follows:
	case n.Kind == LinkRemoved, w.Ended(n.NewLink): // or removed by the new primary, which was faster
		w.removeSecret(s)
	default:
		r := w.Replica(s)
		w.unlink(s)
		s.Primary = n.Primary
		w.put(tableReplicas, regionKey(s.Primary, s.Account, s.Name),
			encode(&secret.Replica{Link: n.NewLink, ChangedAt: r.ChangedAt, ReceivedAt: r.ReceivedAt}))
		w.putSecret(s)
	}
	return Outcome{}, nil
}
