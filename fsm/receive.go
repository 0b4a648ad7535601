package fsm

import (
	"slices"

	"coffer/secret"
)

// Receive brings a replica to the state of its primary at a revision. It is the only way in which another region
// changes a secret here, and it decides whether that region may.
type Receive struct {
	From     Sender `cbor:"1,keyasint"`
	Ref      Ref    `cbor:"2,keyasint"`
	At       int64  `cbor:"3,keyasint"`
	Link     string `cbor:"4,keyasint"`
	Revision uint64 `cbor:"5,keyasint"`

	Description string        `cbor:"6,keyasint,omitempty"`
	Tags        []secret.Tag  `cbor:"7,keyasint,omitempty"`
	Tagged      bool          `cbor:"8,keyasint,omitempty"`
	Policy      string        `cbor:"9,keyasint,omitempty"`
	Created     int64         `cbor:"10,keyasint"`
	Changed     int64         `cbor:"11,keyasint"`
	Labels      secret.Labels `cbor:"12,keyasint,omitempty"`

	Versions []ReceivedVersion `cbor:"13,keyasint,omitempty"` // those that the replica may lack
	Total    int               `cbor:"14,keyasint"`           // versions that the secret has
	Full     bool              `cbor:"15,keyasint,omitempty"` // IDs lists them all; others are removed
	IDs      []string          `cbor:"16,keyasint,omitempty"`

	KeyID     string           `cbor:"17,keyasint,omitempty"` // KMS key of a replica that is new here
	Overwrite bool             `cbor:"18,keyasint,omitempty"`
	Origin    *secret.Origin   `cbor:"19,keyasint,omitempty"` // of a primary that was promoted from this region's
	HandOver  []secret.NewLink `cbor:"20,keyasint,omitempty"` // become the primary, with these links
	Displace  string           `cbor:"21,keyasint"`           // id for what has to be set aside
}

// Received is what came of a state that another region sent.
type Received struct {
	Revision    uint64 `cbor:"1,keyasint"` // that the replica has now; 0 while versions are missing
	KeyID       string `cbor:"2,keyasint,omitempty"`
	AccessedDay int64  `cbor:"3,keyasint,omitempty"`
	TookOver    bool   `cbor:"4,keyasint,omitempty"`
	Displaced   bool   `cbor:"5,keyasint,omitempty"` // a secret was set aside
}

func (c *Receive) apply(w *writeTx) (Outcome, error) {
	if err := w.fence(c.From); err != nil {
		return Outcome{}, err
	}
	var out Outcome
	err := w.atomically(func() (err error) {
		out.Received, err = c.receive(w)
		return err
	})
	return out, err
}

func (c *Receive) receive(w *writeTx) (*Received, error) {
	if w.Ended(c.Link) {
		return nil, secret.ErrEnded
	}
	s := w.ByName(c.Ref.Account, c.Ref.Name)
	if s != nil && s.Primary == c.From.Region && s.Suffix == c.Ref.Suffix {
		if r := w.Replica(s); r.Link == c.Link && r.Epoch == c.From.Epoch &&
			(c.Revision < r.Revision || c.Revision == r.Revision && !c.Full && c.HandOver == nil) {
			return received(s, r), nil // it came twice, or was overtaken
		}
	}
	displaced, err := c.admit(w, s)
	if err != nil {
		return nil, err
	}
	if displaced || s == nil {
		s = &secret.Secret{Account: c.Ref.Account, Name: c.Ref.Name, Suffix: c.Ref.Suffix, KeyID: c.KeyID}
		if !c.Full {
			return nil, secret.ErrIncomplete
		}
	}
	got, err := c.bring(w, s)
	if err == nil {
		got.Displaced = displaced
	}
	return got, err
}

// admit decides whether the sender may bring a state for the name that s has, which is nil if the name is free. What
// is in the way of a state that may come is displaced, or made a replica that is ready for it.
func (c *Receive) admit(w *writeTx, s *secret.Secret) (displaced bool, err error) {
	switch {
	case s == nil:
		return false, nil
	case s.Primary == c.From.Region && s.Suffix == c.Ref.Suffix:
		return c.admitOwn(w, s)
	case s.Primary != "" && s.Suffix == c.Ref.Suffix && w.succeeds(c.From.Region, s.Primary):
		w.end(w.Replica(s).Link, c.At)
		w.notify(s.Primary, &Notice{Kind: LinkEnded, Link: w.Replica(s).Link, Ref: refOf(s), Since: c.At})
		return c.follow(w, s, false)
	case s.Primary == c.From.Region:
		return false, secret.ErrTaken("it is a replica of an earlier secret of that name in " + s.Primary +
			", which is about to be deleted.")
	case s.Primary != "":
		return false, secret.ErrTaken("it is a replica of a secret in the region " + s.Primary +
			". Remove it there, or promote it here, first.")
	case s.Suffix == c.Ref.Suffix && w.succeeds(c.From.Region, w.here().Region):
		here := w.here()
		unchanged := c.Origin != nil && c.Origin.Region == here.Region && c.Origin.Revision == s.Revision &&
			c.Origin.Epoch == here.Epoch
		return c.follow(w, s, unchanged)
	case !c.Overwrite:
		return false, secret.ErrTaken("replicate with ForceOverwriteReplicaSecret to replace it; what it held can then be " +
			"restored for 30 days.")
	case len(s.Replicas) > 0:
		return false, secret.ErrTaken("it has replicas of its own. Remove them first.")
	}
	w.unlink(s)
	return true, w.displace(s, c.Displace, c.From.Region, c.At)
}

// admitOwn readies a replica whose primary is in the sender's region for a state by the same link, a new one, or in a
// newer epoch. Of two links the one that has not ended here is the new one: the other ended when this one came.
func (c *Receive) admitOwn(w *writeTx, s *secret.Secret) (displaced bool, err error) {
	r := w.Replica(s)
	newEpoch := r.Epoch != 0 && c.From.Epoch > r.Epoch
	switch {
	case r.Link == c.Link && !newEpoch:
		return false, nil
	case !c.Full:
		return false, secret.ErrIncomplete
	}
	if r.Link != c.Link {
		w.end(r.Link, c.At)
	}
	if newEpoch {
		return c.follow(w, s, false)
	}
	return false, nil
}

// follow makes s, whose content may contradict what comes, a replica that takes everything from it. What s has and the
// sender has not is set aside.
func (c *Receive) follow(w *writeTx, s *secret.Secret, unchanged bool) (displaced bool, err error) {
	if !c.Full {
		return false, secret.ErrIncomplete
	}
	old := *s
	w.unlink(s)
	if !unchanged && c.lacks(w, s) {
		return true, w.displace(&old, c.Displace, c.From.Region, c.At)
	}
	if !unchanged { // versions with the same ids may have other values
		w.keepOnly(s, nil)
	}
	s.Primary, s.Replicas, s.Origin, s.Deleted = c.From.Region, nil, nil, 0
	w.put(tableReplicas, regionKey(s.Primary, s.Account, s.Name), encode(&secret.Replica{Link: c.Link}))
	w.putSecret(s)
	return false, nil
}

// lacks reports whether s has something that what comes has not.
func (c *Receive) lacks(w *writeTx, s *secret.Secret) bool {
	known := make(map[string]bool, len(c.IDs))
	for _, id := range c.IDs {
		known[id] = true
	}
	lacks := s.Primary == "" // it was written to here
	w.Versions(s, "", func(v *secret.Version) bool {
		lacks = lacks || !known[v.ID]
		return !lacks
	})
	return lacks
}

// succeeds reports whether region may take over the secrets whose primary is or was in lost.
func (w *writeTx) succeeds(region, lost string) bool {
	return slices.Contains(w.Peer(lost).Successors, region)
}

// bring makes s what the state says.
func (c *Receive) bring(w *writeTx, s *secret.Secret) (*Received, error) {
	if c.Full {
		w.keepOnly(s, c.IDs)
	}
	if err := w.receiveVersions(s, c.Versions, c.At); err != nil {
		return nil, err
	}
	for _, version := range c.Labels.All() {
		if !w.Has(tableVersions, versionKey(s.Account, s.Name, version)) {
			return nil, secret.ErrIncomplete
		}
	}
	r := &secret.Replica{
		Link: c.Link, Epoch: c.From.Epoch, Revision: c.Revision, ChangedAt: c.Changed, ReceivedAt: c.At,
		Partial: s.Versions != c.Total,
	}
	if r.Partial && !c.Full {
		return nil, secret.ErrIncomplete
	}
	s.Primary, s.Description, s.Tags, s.Tagged, s.Policy = c.From.Region, c.Description, c.Tags, c.Tagged, c.Policy
	s.Created, s.Changed, s.Labels = c.Created, c.Changed, c.Labels
	s.Revision++
	if c.HandOver != nil && !r.Partial {
		w.end(c.Link, c.At)
		w.leavePrimary(s)
		s.Primary = ""
		w.addLinks(s, c.HandOver, c.At)
		w.putSecret(s)
		return &Received{Revision: c.Revision, KeyID: s.KeyID, AccessedDay: s.AccessedDay, TookOver: true}, nil
	}
	w.put(tableReplicas, regionKey(s.Primary, s.Account, s.Name), encode(r))
	w.putSecret(s)
	return received(s, r), nil
}

func received(s *secret.Secret, r *secret.Replica) *Received {
	got := &Received{Revision: r.Revision, KeyID: s.KeyID, AccessedDay: s.AccessedDay}
	if r.Partial {
		got.Revision = 0
	}
	return got
}
