package fsm

import (
	"slices"

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
	// Receive brings a replica to the state of its primary at a revision. It is the only way in which another region
	// changes a secret here, and it decides whether that region may.
	Receive struct {
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
	// ReceiveNotice is what another region tells about a link.
	ReceiveNotice struct {
		From   Sender `cbor:"1,keyasint"`
		At     int64  `cbor:"2,keyasint"`
		Notice Notice `cbor:"3,keyasint"`
	}
	// Promote makes a replica a standalone secret, or a primary with Links. It ends its link for ever.
	Promote struct {
		Ref   Ref              `cbor:"1,keyasint"`
		At    int64            `cbor:"2,keyasint"`
		Links []secret.NewLink `cbor:"3,keyasint,omitempty"`
		// Lost is the region of the lost primary, if that is why: the secret remembers it. Only its replicas are promoted.
		Lost string `cbor:"4,keyasint,omitempty"`
	}
)

// Received is what came of a state that another region sent.
type Received struct {
	Revision    uint64 `cbor:"1,keyasint"` // that the replica has now; 0 while versions are missing
	KeyID       string `cbor:"2,keyasint,omitempty"`
	AccessedDay int64  `cbor:"3,keyasint,omitempty"`
	TookOver    bool   `cbor:"4,keyasint,omitempty"`
	Displaced   bool   `cbor:"5,keyasint,omitempty"` // a secret was set aside
}

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
		if r := w.Replica(s); r.Link == c.Link && r.Epoch == c.From.Epoch && (c.Revision < r.Revision || c.Revision == r.Revision && !c.Full && c.HandOver == nil) {
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
		return false, secret.ErrTaken("it is a replica of an earlier secret of that name in " + s.Primary + ", which is about to be deleted.")
	case s.Primary != "":
		return false, secret.ErrTaken("it is a replica of a secret in the region " + s.Primary + ". Remove it there, or promote it here, first.")
	case s.Suffix == c.Ref.Suffix && w.succeeds(c.From.Region, w.here().Region):
		here := w.here()
		unchanged := c.Origin != nil && c.Origin.Region == here.Region && c.Origin.Revision == s.Revision && c.Origin.Epoch == here.Epoch
		return c.follow(w, s, unchanged)
	case !c.Overwrite:
		return false, secret.ErrTaken("replicate with ForceOverwriteReplicaSecret to replace it; what it held can then be restored for 30 days.")
	case len(s.Replicas) > 0:
		return false, secret.ErrTaken("it has replicas of its own. Remove them first.")
	}
	w.unlink(s)
	w.displace(s, c.Displace, c.From.Region, c.At)
	return true, nil
}

// admitOwn readies a replica whose primary is in the sender's region for a state by the same link, a new one, or in a newer
// epoch. Of two links the one that has not ended here is the new one: the other ended when this one came.
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
		w.displace(&old, c.Displace, c.From.Region, c.At)
		return true, nil
	}
	if !unchanged { // versions with the same ids may have other values
		w.keepOnly(s, nil)
	}
	s.Primary, s.Replicas, s.Origin, s.Deleted = c.From.Region, nil, nil, 0
	w.put(tableReplicas, regionKey(s.Primary, s.Account, s.Name), encode(&secret.Replica{Link: c.Link}))
	w.putSecret(&old, s)
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

// here is the region's own row.
func (w *writeTx) here() Cluster {
	cluster, _ := w.Cluster()
	return cluster
}

// bring makes s what the state says.
func (c *Receive) bring(w *writeTx, s *secret.Secret) (*Received, error) {
	var old *secret.Secret
	if stored := w.ByName(s.Account, s.Name); stored != nil {
		old = stored
	}
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
	key := regionKey(s.Primary, s.Account, s.Name)
	if c.HandOver != nil && !r.Partial {
		w.end(c.Link, c.At)
		w.discard(tableReplicas, key)
		s.Primary = ""
		w.addLinks(s, c.HandOver, c.At)
		w.putSecret(old, s)
		return &Received{Revision: c.Revision, KeyID: s.KeyID, AccessedDay: s.AccessedDay, TookOver: true}, nil
	}
	w.put(tableReplicas, key, encode(r))
	w.putSecret(old, s)
	return received(s, r), nil
}

func received(s *secret.Secret, r *secret.Replica) *Received {
	got := &Received{Revision: r.Revision, KeyID: s.KeyID, AccessedDay: s.AccessedDay}
	if r.Partial {
		got.Revision = 0
	}
	return got
}

// keepOnly removes the versions of s that are not among ids.
func (w *writeTx) keepOnly(s *secret.Secret, ids []string) {
	if s.Versions == 0 {
		return
	}
	kept := make(map[string]bool, len(ids))
	for _, id := range ids {
		kept[id] = true
	}
	var gone []secret.Version
	w.Versions(s, "", func(v *secret.Version) bool {
		if !kept[v.ID] {
			gone = append(gone, *v)
		}
		return true
	})
	for _, v := range gone {
		w.removeVersion(s, v)
		s.Versions--
	}
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
		old := *s
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
		w.putSecret(&old, s)
		return nil
	})
	return Outcome{Received: received(s, r)}, err
}

func (c *ReceiveNotice) apply(w *writeTx) (Outcome, error) {
	if err := w.fence(c.From); err != nil {
		return Outcome{}, err
	}
	n := &c.Notice
	s := w.ByName(n.Ref.Account, n.Ref.Name)
	same := s != nil && s.Suffix == n.Ref.Suffix
	if n.Kind == LinkEnded {
		if same && s.Primary != c.From.Region && slices.Contains(s.Replicas, c.From.Region) && w.Link(c.From.Region, s).ID == n.Link {
			old := *s
			w.dropLink(s, c.From.Region)
			w.putSecret(&old, s)
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
		old, r := *s, w.Replica(s)
		w.unlink(s)
		s.Primary = n.Primary
		w.put(tableReplicas, regionKey(s.Primary, s.Account, s.Name), encode(&secret.Replica{Link: n.NewLink, ChangedAt: r.ChangedAt, ReceivedAt: r.ReceivedAt}))
		w.putSecret(&old, s)
	}
	return Outcome{}, nil
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
