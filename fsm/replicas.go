package fsm

import (
	"coffer/secret"
)

// Sender is who sends: a region, in an epoch of it, and the term of its leader.
type Sender struct {
	Region string `cbor:"1,keyasint"`
	Epoch  int64  `cbor:"2,keyasint"`
	Term   uint64 `cbor:"3,keyasint"`
}

// ReceivedVersion is a version as it comes from the primary, sealed under a key of this region.
type ReceivedVersion struct {
	NewVersion
	Created int64 `cbor:"6,keyasint"`
}

// The commands of a replica's region.
type (
	// ReceiveVersions adds versions without labels to a replica that has Revision.
	ReceiveVersions struct {
		From     Sender            `cbor:"1,keyasint"`
		Ref      Ref               `cbor:"2,keyasint"`
		At       int64             `cbor:"3,keyasint"`
		Link     string            `cbor:"4,keyasint"`
		Revision uint64            `cbor:"5,keyasint"`
		Versions []ReceivedVersion `cbor:"6,keyasint"`
		Total    int               `cbor:"7,keyasint"`
		Last     bool              `cbor:"8,keyasint,omitempty"`
	}
)

// Replica is what is known of the primary of s, nil if s is no replica.
func (t *Tx) Replica(s *secret.Secret) *secret.Replica {
	var r secret.Replica
	if s.Primary == "" || !t.get(tableReplicas, regionKey(s.Primary, s.Account, s.Name), &r) {
		return nil
	}
	return &r
}

// Replicas calls visit with the replicas whose primary is in region until it returns false.
func (t *Tx) Replicas(region string, visit func(*secret.Secret, *secret.Replica) bool) {
	t.walkRegion(tableReplicas, region, func(_ string, s *secret.Secret, key, payload []byte) bool {
		var r secret.Replica
		decode(tableReplicas, key, payload, &r)
		return visit(s, &r)
	})
}

// Ended reports whether a link was ended in this region.
func (t *Tx) Ended(link string) bool { return t.Has(tableEnded, []byte(link)) }

// end ends a link here, for ever.
func (w *writeTx) end(link string, at int64) {
	if !w.Ended(link) {
		w.put(tableEnded, []byte(link), encode(at))
	}
}

// fence refuses what a deposed leader, or a region before it was restored, sent.
func (w *writeTx) fence(from Sender) error {
	p := w.Peer(from.Region)
	switch {
	case from.Epoch < p.SeenEpoch, from.Epoch == p.SeenEpoch && from.Term < p.SeenTerm:
		return secret.ErrStale
	case from.Epoch > p.SeenEpoch, from.Term > p.SeenTerm:
		p.SeenEpoch, p.SeenTerm = from.Epoch, from.Term
		w.putPeer(p)
	}
	return nil
}

// receiveVersions adds the versions that s lacks, without labels.
func (w *writeTx) receiveVersions(s *secret.Secret, versions []ReceivedVersion, at int64) error {
	for i := range versions {
		v := &versions[i]
		key := versionKey(s.Account, s.Name, v.ID)
		if w.Has(tableVersions, key) {
			continue
		}
		if err := w.usable(s.Account, v.KeyID, at); err != nil {
			return err
		}
		w.storeVersion(s, &v.NewVersion, v.Created)
	}
	return nil
}

func (c *ReceiveVersions) apply(w *writeTx) (Outcome, error) {
	if err := w.fence(c.From); err != nil {
		return Outcome{}, err
	}
	if w.Ended(c.Link) {
		return Outcome{}, secret.ErrEnded
	}
	s := w.ByName(c.Ref.Account, c.Ref.Name)
	if s == nil || s.Suffix != c.Ref.Suffix || s.Primary != c.From.Region {
		return Outcome{}, secret.ErrIncomplete
	}
	r := w.Replica(s)
	switch {
	case r.Link != c.Link || r.Epoch != c.From.Epoch || r.Revision < c.Revision:
		return Outcome{}, secret.ErrIncomplete
	case r.Revision > c.Revision || !r.Partial:
		return Outcome{Received: received(s, r)}, nil
	}
	err := w.atomically(func() error {
		if err := w.receiveVersions(s, c.Versions, c.At); err != nil {
			return err
		}
		if c.Last {
			if s.Versions != c.Total {
				return secret.ErrIncomplete
			}
			r.Partial = false
			w.put(tableReplicas, regionKey(s.Primary, s.Account, s.Name), encode(r))
		}
		w.putSecret(s)
		return nil
	})
	return Outcome{Received: received(s, r)}, err
}
