package fsm

import (
	"slices"

	"coffer/refusal"
	"coffer/secret"
)

// HandOver makes the replica in region To the primary, and the secret here its replica: with its last state, which is
// on its way from now on, the other region takes over. Links are those that the new primary has: one to here, and one
// to each other replica.
type HandOver struct {
	Ref   Ref              `cbor:"1,keyasint"`
	At    int64            `cbor:"2,keyasint"`
	To    string           `cbor:"3,keyasint"`
	Links []secret.NewLink `cbor:"4,keyasint"`
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
			return refusal.Errorf(secret.KindInvalidRequest, "The replica in the region %s is not in sync.", c.To)
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
			return refusal.ErrConflict
		}
		for _, region := range regions[1:] {
			l := w.Link(region, s)
			w.notify(region, &Notice{
				Kind: LinkMoved, Link: l.ID, Ref: refOf(s), Primary: c.To, NewLink: links[region].ID, Since: c.At,
				Request: w.request,
			})
			w.dropLink(s, region)
		}
		to.HandOver = c.Links
		w.put(tableLinks, regionKey(c.To, s.Account, s.Name), encode(to))
		w.lag(s, c.To, c.At, w.request, false)
		s.Primary, s.Replicas, s.Origin = c.To, nil, nil
		w.put(tableReplicas, regionKey(c.To, s.Account, s.Name),
			encode(&secret.Replica{Link: links[here].ID, ChangedAt: s.Changed, ReceivedAt: c.At}))
		return nil
	})
	return Outcome{}, err
}
