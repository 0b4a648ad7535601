package fsm

import (
	"bytes"
	"slices"

	"coffer/secret"
)

// The commands of a primary's region about its links.
type (
	// AddLinks replicates a secret to more regions. A link that is there is tried again, with what the new one asks for.
	AddLinks struct {
		Ref   Ref              `cbor:"1,keyasint"`
		At    int64            `cbor:"2,keyasint"`
		Links []secret.NewLink `cbor:"3,keyasint"`
	}
	// RemoveLinks ends the replication of a secret to regions, and has its replicas there deleted.
	RemoveLinks struct {
		Ref     Ref      `cbor:"1,keyasint"`
		At      int64    `cbor:"2,keyasint"`
		Regions []string `cbor:"3,keyasint"`
	}
	// HandOver makes the replica in region To the primary, and the secret here its replica: with its last state, which is
	// on its way from now on, the other region takes over. Links are those that the new primary has: one to here, and one
	// to each other replica.
	HandOver struct {
		Ref   Ref              `cbor:"1,keyasint"`
		At    int64            `cbor:"2,keyasint"`
		To    string           `cbor:"3,keyasint"`
		Links []secret.NewLink `cbor:"4,keyasint"`
	}
	// Settle records what another region answered.
	Settle struct {
		Region  string       `cbor:"1,keyasint"`
		At      int64        `cbor:"2,keyasint"`
		Answers []LinkAnswer `cbor:"3,keyasint,omitempty"`
		Notices []string     `cbor:"4,keyasint,omitempty"` // links whose notices have arrived
	}
	// Repair has everything sent again that the comparison of two regions found to differ.
	Repair struct {
		Region   string       `cbor:"1,keyasint"`
		At       int64        `cbor:"2,keyasint"`
		Links    []LinkRef    `cbor:"3,keyasint,omitempty"`
		Accessed []LinkAccess `cbor:"4,keyasint,omitempty"` // replicas read on a later day than was known
	}
)

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

// LinkAnswer is a replica region's answer to a state.
type LinkAnswer struct {
	Ref         Ref         `cbor:"1,keyasint"`
	Link        string      `cbor:"2,keyasint"`
	Revision    uint64      `cbor:"3,keyasint,omitempty"` // that the replica has; 0 if it refused
	ReadAt      int64       `cbor:"4,keyasint,omitempty"` // when the state was read here
	KeyID       string      `cbor:"5,keyasint,omitempty"` // the replica's KMS key
	AccessedDay int64       `cbor:"6,keyasint,omitempty"`
	TookOver    bool        `cbor:"9,keyasint,omitempty"` // the replica is the primary now
	Refused     secret.Kind `cbor:"7,keyasint,omitempty"`
	Why         string      `cbor:"8,keyasint,omitempty"`
}

// Link is the link of s to region, nil if there is none.
func (t *Tx) Link(region string, s *secret.Secret) *secret.Link {
	var l secret.Link
	if !t.get(tableLinks, regionKey(region, s.Account, s.Name), &l) {
		return nil
	}
	return &l
}

// Links calls visit with the secrets that have a link to region until it returns false. An empty region means all links.
func (t *Tx) Links(region string, visit func(region string, s *secret.Secret, l *secret.Link) bool) {
	t.walkRegion(tableLinks, region, func(region string, s *secret.Secret, key, payload []byte) bool {
		var l secret.Link
		decode(tableLinks, key, payload, &l)
		return visit(region, s, &l)
	})
}

// walkRegion walks the rows of a table whose keys are region, account and name, with the secrets that they belong to.
func (t *Tx) walkRegion(in table, region string, visit func(region string, s *secret.Secret, key, payload []byte) bool) {
	var prefix []byte
	if region != "" {
		prefix = append([]byte(region), 0)
	}
	for key, payload := range t.Ascend(in, prefix) {
		if !bytes.HasPrefix(key, prefix) {
			return
		}
		at, rest, _ := bytes.Cut(key, []byte{0})
		account, name, _ := bytes.Cut(rest, []byte{0})
		s := t.ByName(string(account), string(name))
		if s == nil {
			in.Contradicts(key, "belongs to no secret")
		}
		if !visit(string(at), s, key, payload) {
			return
		}
	}
}

// writable refuses changes of replicas.
func (w *writeTx) writable(s *secret.Secret) error {
	if s.Primary == "" {
		return nil
	}
	if l := w.Link(s.Primary, s); l != nil && l.HandOver != nil {
		return secret.ErrMoving
	}
	return secret.ErrReplica
}

// deletable refuses the deletion of replicas and of what has replicas.
func (w *writeTx) deletable(s *secret.Secret) error {
	if err := w.writable(s); err != nil {
		return err
	}
	if len(s.Replicas) > 0 {
		return secret.ErrHasReplicas
	}
	return nil
}

func (c *AddLinks) apply(w *writeTx) (Outcome, error) {
	_, err := w.alter(c.Ref, func(s *secret.Secret) error {
		if err := w.writable(s); err != nil {
			return err
		}
		if s.Deleted != 0 {
			return secret.ErrMarkedForDeletion
		}
		w.addLinks(s, c.Links, c.At)
		return nil
	})
	return Outcome{}, err
}

// addLinks gives s links, which have everything to send. The caller stores s.
func (w *writeTx) addLinks(s *secret.Secret, links []secret.NewLink, at int64) {
	for _, n := range links {
		key := regionKey(n.Region, s.Account, s.Name)
		if slices.Contains(s.Replicas, n.Region) {
			l := w.Link(n.Region, s)
			if l.Acked == 0 {
				l.Overwrite = l.Overwrite || n.Overwrite
				if n.KeyID != "" {
					l.KeyID = n.KeyID
				}
				l.Failed = ""
				w.put(tableLinks, key, encode(l))
				w.lag(s, n.Region, at, w.request, true)
			}
			continue
		}
		w.put(tableLinks, key, encode(&secret.Link{ID: n.ID, KeyID: n.KeyID, Overwrite: n.Overwrite}))
		s.Replicas = append(slices.Clone(s.Replicas), n.Region)
		slices.Sort(s.Replicas)
		w.lag(s, n.Region, at, w.request, true)
	}
}

func (c *RemoveLinks) apply(w *writeTx) (Outcome, error) {
	_, err := w.alter(c.Ref, func(s *secret.Secret) error {
		if err := w.writable(s); err != nil {
			return err
		}
		for _, region := range c.Regions {
			if !slices.Contains(s.Replicas, region) {
				return secret.ErrNoReplicaIn(region)
			}
		}
		for _, region := range c.Regions {
			if l := w.Link(region, s); l != nil {
				w.notify(region, &Notice{Kind: LinkRemoved, Link: l.ID, Ref: refOf(s), Since: c.At, Request: w.request})
				w.dropLink(s, region)
			}
		}
		return nil
	})
	return Outcome{}, err
}

func refOf(s *secret.Secret) Ref { return Ref{s.Account, s.Name, s.Suffix} }

// dropLink forgets the link of s to region, and what it has to send. The caller stores s.
func (w *writeTx) dropLink(s *secret.Secret, region string) {
	w.remove(tableLinks, regionKey(region, s.Account, s.Name))
	w.discard(tableOutbox, lagKey(region, s))
	s.Replicas = slices.DeleteFunc(slices.Clone(s.Replicas), func(r string) bool { return r == region })
}

// unlink forgets everything about replication that belongs to s: it is about to be no more what it was.
func (w *writeTx) unlink(s *secret.Secret) {
	for _, region := range s.Replicas {
		w.dropLink(s, region)
	}
	if s.Primary != "" {
		w.discard(tableReplicas, regionKey(s.Primary, s.Account, s.Name))
		w.discard(tableLinks, regionKey(s.Primary, s.Account, s.Name)) // of a hand-over
		w.discard(tableOutbox, lagKey(s.Primary, s))
	}
}

func (c *HandOver) apply(w *writeTx) (Outcome, error) {
	_, err := w.alter(c.Ref, func(s *secret.Secret) error {
		if err := w.writable(s); err != nil {
			return err
		}
		if s.Deleted != 0 {
			return secret.ErrMarkedForDeletion
		}
		if !slices.Contains(s.Replicas, c.To) {
			return secret.ErrNoReplicaIn(c.To)
		}
		to := w.Link(c.To, s)
		if to.Acked == 0 || to.Failed != "" {
			return secret.Errorf(secret.KindInvalidRequest, "The replica in the region %s is not in sync.", c.To)
		}
		here := w.here().Region
		regions := []string{here}
		for _, r := range s.Replicas {
			if r != c.To {
				regions = append(regions, r)
			}
		}
		links := map[string]secret.NewLink{}
		for _, l := range c.Links {
			links[l.Region] = l
		}
		if len(links) != len(regions) || slices.ContainsFunc(regions, func(r string) bool { return links[r].ID == "" }) {
			return secret.ErrConflict
		}
		for _, region := range regions[1:] {
			l := w.Link(region, s)
			w.notify(region, &Notice{Kind: LinkMoved, Link: l.ID, Ref: refOf(s), Primary: c.To, NewLink: links[region].ID, Since: c.At, Request: w.request})
			w.dropLink(s, region)
		}
		to.HandOver = c.Links
		w.put(tableLinks, regionKey(c.To, s.Account, s.Name), encode(to))
		w.lag(s, c.To, c.At, w.request, false)
		s.Primary, s.Replicas, s.Origin = c.To, nil, nil
		w.put(tableReplicas, regionKey(c.To, s.Account, s.Name), encode(&secret.Replica{Link: links[here].ID, ChangedAt: s.Changed, ReceivedAt: c.At}))
		return nil
	})
	return Outcome{}, err
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
		old := *s
		w.dropLink(s, region)
		w.putSecret(&old, s)
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

// BeginEpoch begins an epoch: what the region sends from now on can contradict what it sent before, and what it
// received is no longer what it acknowledged. Everything is sent again. Commands that were made before are not carried
// out any more.
type BeginEpoch struct {
	At int64 `cbor:"1,keyasint"`
}

func (c *BeginEpoch) apply(w *writeTx) (Outcome, error) {
	cluster, formed := w.Cluster()
	if !formed {
		return Outcome{}, nil
	}
	cluster.Epoch = max(cluster.Epoch+1, c.At)
	w.put(tableCluster, clusterKey, encode(cluster))
	w.beginProposals(w.index)
	w.sendAllAgain("", c.At)
	return Outcome{}, nil
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
