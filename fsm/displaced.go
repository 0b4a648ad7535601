package fsm

import (
	"slices"

	"coffer/refusal"
	"coffer/secret"
)

// RestoreDisplaced brings a displaced secret back: under the name that it had, or, with Versions, which are sealed for
// it, as a new secret As. The second leaves the displaced one where it is.
type RestoreDisplaced struct {
	Account  string            `cbor:"1,keyasint"`
	ID       string            `cbor:"2,keyasint"`
	At       int64             `cbor:"3,keyasint"`
	As       *Ref              `cbor:"4,keyasint,omitempty"`
	Versions []ReceivedVersion `cbor:"5,keyasint,omitempty"` // those that have labels
}

// displace sets s aside: under a key that no name can have, from where it can be restored until its time is over.
// It is a conflict if another one was set aside under the id.
func (w *writeTx) displace(s *secret.Secret, id, by string, at int64) error {
	if w.Displaced(s.Account, id) != nil {
		return refusal.ErrConflict
	}
	aside := *s
	aside.Name = secret.DisplacedKey(id)
	aside.Displaced = &secret.Displaced{Name: s.Name, By: by, At: at}
	aside.Deleted = at + secret.KeepDisplaced
	aside.Replicas, aside.Primary, aside.Origin = nil, "", nil
	w.rename(s, &aside)
	return nil
}

// rename stores a secret under another name. The versions' values stay where they are.
func (w *writeTx) rename(old, s *secret.Secret) {
	var versions []secret.Version
	w.Versions(old, "", func(v *secret.Version) bool {
		versions = append(versions, *v)
		return true
	})
	for _, v := range versions {
		w.remove(tableVersions, versionKey(old.Account, old.Name, v.ID))
		w.add(tableVersions, versionKey(s.Account, s.Name, v.ID), encode(&v))
	}
	w.remove(tableSecrets, secretKey(old.Account, old.Name))
	w.putSecret(s)
}

// Displaced is the displaced secret with the id, nil if there is none.
func (t *Tx) Displaced(account, id string) *secret.Secret {
	return t.ByName(account, secret.DisplacedKey(id))
}

// AllDisplaced lists the displaced secrets of an account, the newest first.
func (t *Tx) AllDisplaced(account string) []*secret.Secret {
	var all []*secret.Secret
	for key, payload := range t.Ascend(tableSecrets, secretKey(account, secret.DisplacedKey(""))) {
		s := new(secret.Secret)
		decodeSecret(key, payload, s)
		if s.Account != account || s.Displaced == nil {
			break
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *secret.Secret) int { return int(b.Displaced.At - a.Displaced.At) })
	return all
}

func (c *RestoreDisplaced) apply(w *writeTx) (Outcome, error) {
	aside := w.Displaced(c.Account, c.ID)
	if aside == nil || aside.Displaced == nil {
		return Outcome{}, refusal.Errorf(secret.KindNotFound, "There is no displaced secret with the id %s.", c.ID)
	}
	back := *aside
	back.Name, back.Displaced, back.Deleted = aside.Displaced.Name, nil, 0
	if c.As != nil {
		back.Name, back.Suffix = c.As.Name, c.As.Suffix
	}
	if w.ByName(c.Account, back.Name) != nil {
		return Outcome{}, secret.ErrExists(back.Name)
	}
	back.Changed = max(back.Changed, c.At)
	back.Revision++
	if c.As == nil {
		w.rename(aside, &back)
		return Outcome{}, nil
	}
	back.Versions, back.Created = 0, c.At
	err := w.atomically(func() error {
		if err := w.receiveVersions(&back, c.Versions, c.At); err != nil {
			return err
		}
		w.putSecret(&back)
		return nil
	})
	return Outcome{}, err
}
