package fsm

import (
	"bytes"
	"slices"

	"coffer/refusal"
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
)

// Link is the link of s to region, nil if there is none.
func (t *Tx) Link(region string, s *secret.Secret) *secret.Link {
	var l secret.Link
	if !t.get(tableLinks, regionKey(region, s.Account, s.Name), &l) {
		return nil
	}
	return &l
}

// Links calls visit with the secrets that have a link to region until it returns false. An empty region means all
// links.
func (t *Tx) Links(region string, visit func(region string, s *secret.Secret, l *secret.Link) bool) {
	t.walkRegion(tableLinks, region, func(region string, s *secret.Secret, key, payload []byte) bool {
		var l secret.Link
		decode(tableLinks, key, payload, &l)
		return visit(region, s, &l)
	})
}

// walkRegion walks the rows of a table whose keys are region, account and name, with the secrets that they belong to.
func (t *Tx) walkRegion(in table, region string,
	visit func(region string, s *secret.Secret, key, payload []byte) bool) {
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

func (c *AddLinks) apply(w *writeTx) (Outcome, error) {
	_, err := w.alter(c.Ref, func(s *secret.Secret) error {
		if err := w.writable(s); err != nil {
			return err
		}
		if s.Deleted != 0 {
			return secret.ErrMarkedForDeletion
		}
		if len(s.Replicas)+len(c.Links) > maxLinks {
			return refusal.ErrConflict // no client gets there: there are not as many regions
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
		w.leavePrimary(s)
	}
}

// leavePrimary forgets what belongs to s as a replica, and to a hand-over to its primary's region that was never
// confirmed.
func (w *writeTx) leavePrimary(s *secret.Secret) {
	key := regionKey(s.Primary, s.Account, s.Name)
	w.discard(tableReplicas, key)
	w.discard(tableLinks, key)
	w.discard(tableOutbox, lagKey(s.Primary, s))
}
