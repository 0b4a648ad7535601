package fsm

import (
	"bytes"
	"encoding/binary"

	"coffer/kms"
	"coffer/secret"
)

func (c *InitCluster) apply(w *writeTx) (Outcome, error) {
	if _, formed := w.Cluster(); formed {
		return Outcome{}, nil
	}
	w.putKey(&c.Key)
	alias := kms.Alias{Name: kms.DefaultAlias, KeyID: c.Key.ID, Created: c.Key.Created, Updated: c.Key.Created}
	w.put(tableAliases, secretKey(c.Key.Account, alias.Name), encode(alias))
	w.put(tableCluster, clusterKey, encode(c.Cluster))
	w.beginProposals(0)
	return Outcome{}, nil
}

func (c *CreateSecret) apply(w *writeTx) (Outcome, error) {
	if old := w.ByName(c.Ref.Account, c.Ref.Name); old != nil {
		switch {
		case old.Deleted != 0:
			return Outcome{}, secret.ErrNameScheduled
		case c.Version != nil && w.Version(old, c.Version.ID) != nil:
			return Outcome{}, secret.ErrConflict // perhaps the same request, made again: compare the values
		}
		return Outcome{}, secret.ErrExists(c.Ref.Name)
	}
	s := &secret.Secret{
		Account: c.Ref.Account, Name: c.Ref.Name, Suffix: c.Ref.Suffix,
		Description: c.Description, Created: c.At, Changed: c.At, KeyID: c.KeyID,
	}
	if err := s.Tag(c.Tags); err != nil {
		return Outcome{}, err
	}
	if c.Version != nil {
		if err := w.addVersion(s, c.Version, []string{secret.Current}, c.At); err != nil {
			return Outcome{}, err
		}
	}
	s.Revision = 1
	w.addLinks(s, c.Links, c.At)
	w.putSecret(nil, s)
	return created(s, c.Version), nil
}

func created(s *secret.Secret, v *NewVersion) Outcome {
	if v == nil {
		return Outcome{}
	}
	return Outcome{Labels: s.LabelsOf(v.ID)}
}

// alter loads the secret that ref names, lets do alter it, and stores it.
func (w *writeTx) alter(ref Ref, do func(*secret.Secret) error) (*secret.Secret, error) {
	s := w.ByName(ref.Account, ref.Name)
	if s == nil || s.Suffix != ref.Suffix {
		return nil, secret.ErrConflict
	}
	old := *s
	if err := do(s); err != nil {
		return nil, err
	}
	w.putSecret(&old, s)
	return s, nil
}

// change is alter for what a primary or a standalone secret is changed by, and its replicas follow.
func (w *writeTx) change(ref Ref, at int64, do func(*secret.Secret) error) (*secret.Secret, error) {
	return w.alter(ref, func(s *secret.Secret) error {
		if err := w.writable(s); err != nil {
			return err
		}
		if err := do(s); err != nil {
			return err
		}
		s.Changed = max(s.Changed, at)
		s.Revision++
		w.changed(s, at)
		return nil
	})
}

// live is change for a secret that is not scheduled for deletion.
func (w *writeTx) live(ref Ref, at int64, do func(*secret.Secret) error) (*secret.Secret, error) {
	return w.change(ref, at, func(s *secret.Secret) error {
		if s.Deleted != 0 {
			return secret.ErrMarkedForDeletion
		}
		return do(s)
	})
}

func (c *PutVersion) apply(w *writeTx) (Outcome, error) {
	s, err := w.live(c.Ref, c.At, func(s *secret.Secret) error {
		return w.addVersion(s, &c.Version, c.Labels, c.At)
	})
	if err != nil {
		return Outcome{}, err
	}
	return Outcome{Labels: s.LabelsOf(c.Version.ID)}, nil
}

func (c *UpdateSecret) apply(w *writeTx) (Outcome, error) {
	if s := w.ByName(c.Ref.Account, c.Ref.Name); s != nil && s.Primary != "" && c.Version == nil && c.Description == nil && c.Key != nil {
		return Outcome{}, c.rekeyReplica(w)
	}
	err := w.atomically(func() error {
		_, err := w.live(c.Ref, c.At, func(s *secret.Secret) error {
			if c.Key != nil {
				if err := w.moveToKey(s, c.Key, c.At); err != nil {
					return err
				}
			}
			if c.Description != nil {
				s.Description = *c.Description
			}
			if c.Version != nil {
				return w.addVersion(s, c.Version, []string{secret.Current}, c.At)
			}
			return nil
		})
		return err
	})
	return Outcome{}, err
}

// rekeyReplica changes the one thing of a replica that is its own: its KMS key.
func (c *UpdateSecret) rekeyReplica(w *writeTx) error {
	return w.atomically(func() error {
		_, err := w.alter(c.Ref, func(s *secret.Secret) error {
			if err := w.moveToKey(s, c.Key, c.At); err != nil {
				return err
			}
			s.Revision++
			return nil
		})
		return err
	})
}

// moveToKey puts s under another KMS key, with the versions whose data keys were wrapped anew for it.
func (w *writeTx) moveToKey(s *secret.Secret, to *NewKey, at int64) error {
	if s.Revision != to.Revision {
		return secret.ErrConflict
	}
	for _, r := range to.Rewraps {
		if err := w.usable(s.Account, r.KeyID, at); err != nil {
			return err
		}
		if !w.rewrap(s, r) {
			return secret.ErrConflict
		}
	}
	s.KeyID = to.KeyID
	return nil
}

// rewrap replaces the wrapped data key of a version, and reports whether the version is there.
func (w *writeTx) rewrap(s *secret.Secret, r Rewrapped) bool {
	v := w.Version(s, r.Version)
	if v == nil {
		return false
	}
	value := w.Value(s, v)
	if value == nil {
		return false
	}
	value.WrappedKey = r.WrappedKey
	w.put(tableValues, valueKey(s.Account, v.Place), encode(value))
	if v.KeyID != r.KeyID {
		v.KeyID = r.KeyID
		w.put(tableVersions, versionKey(s.Account, s.Name, v.ID), encode(v))
	}
	return true
}

// addVersion stores a version, attaches its labels and cleans up versions that no label holds.
// The caller stores s. A version that exists is a conflict: versions are immutable.
func (w *writeTx) addVersion(s *secret.Secret, v *NewVersion, labels []string, at int64) error {
	key := versionKey(s.Account, s.Name, v.ID)
	if w.Has(tableVersions, key) {
		return secret.ErrConflict
	}
	if err := w.usable(s.Account, v.KeyID, at); err != nil {
		return err
	}
	if err := s.Attach(v.ID, labels); err != nil {
		return err
	}
	w.storeVersion(s, v, at)
	w.added = append(w.added, v.ID)
	w.cleanUp(s, at)
	return nil
}

// storeVersion stores a version that is not there yet. The caller stores s.
func (w *writeTx) storeVersion(s *secret.Secret, v *NewVersion, created int64) {
	place := w.place()
	w.add(tableVersions, versionKey(s.Account, s.Name, v.ID), encode(&secret.Version{ID: v.ID, Created: created, KeyID: v.KeyID, Place: place, Revision: s.Revision + 1}))
	w.add(tableValues, valueKey(s.Account, place), encode(&secret.Value{WrappedKey: v.WrappedKey, Sealed: v.Sealed, Binary: v.Binary}))
	s.Versions++
}

// cleanUp removes the oldest versions without labels beyond 100, but none younger than 24 hours.
// It looks at the versions only when one can be old enough, and at most once an hour of puts.
func (w *writeTx) cleanUp(s *secret.Secret, at int64) {
	if s.Versions <= secret.MaxUnlabelled || at < s.CleanUpAt {
		return
	}
	labelled := map[string]bool{}
	for _, id := range s.Labels.All() {
		labelled[id] = true
	}
	var unlabelled []secret.Version
	w.Versions(s, "", func(v *secret.Version) bool {
		if !labelled[v.ID] {
			unlabelled = append(unlabelled, *v)
		}
		return true
	})
	for _, v := range secret.Removable(unlabelled, at) {
		w.removeVersion(s, v)
		s.Versions--
	}
	const hour = 60 * 60 * 1000
	s.CleanUpAt = at + hour
}

func (c *MoveLabel) apply(w *writeTx) (Outcome, error) {
	_, err := w.live(c.Ref, c.At, func(s *secret.Secret) error {
		for _, version := range []string{c.To, c.From} {
			if version != "" && w.Version(s, version) == nil {
				return secret.ErrNoVersion(version)
			}
		}
		return s.MoveLabel(c.Label, c.From, c.To)
	})
	return Outcome{}, err
}

func (c *ScheduleDeletion) apply(w *writeTx) (Outcome, error) {
	_, err := w.live(c.Ref, c.At, func(s *secret.Secret) error {
		s.Deleted = c.Due
		return w.deletable(s)
	})
	return Outcome{}, err
}

func (c *CancelDeletion) apply(w *writeTx) (Outcome, error) {
	_, err := w.change(c.Ref, c.At, func(s *secret.Secret) error {
		s.Deleted = 0
		return nil
	})
	return Outcome{}, err
}

func (c *DeleteNow) apply(w *writeTx) (Outcome, error) {
	s := w.ByName(c.Ref.Account, c.Ref.Name)
	if s == nil || s.Suffix != c.Ref.Suffix {
		return Outcome{}, nil
	}
	if err := w.deletable(s); err != nil {
		return Outcome{}, err
	}
	w.removeSecret(s)
	return Outcome{}, nil
}

func (c *TagSecret) apply(w *writeTx) (Outcome, error) {
	_, err := w.live(c.Ref, c.At, func(s *secret.Secret) error { return s.Tag(c.Tags) })
	return Outcome{}, err
}

func (c *UntagSecret) apply(w *writeTx) (Outcome, error) {
	_, err := w.live(c.Ref, c.At, func(s *secret.Secret) error {
		s.Untag(c.Keys)
		return nil
	})
	return Outcome{}, err
}

func (c *SetPolicy) apply(w *writeTx) (Outcome, error) {
	_, err := w.live(c.Ref, c.At, func(s *secret.Secret) error {
		s.Policy = c.Policy
		return nil
	})
	return Outcome{}, err
}

func (c *RecordAccess) apply(w *writeTx) (Outcome, error) {
	for _, a := range c.Reads {
		s := w.ByName(a.Ref.Account, a.Ref.Name)
		if s == nil || s.Suffix != a.Ref.Suffix {
			continue
		}
		if s.AccessedDay < a.Day {
			old := *s
			s.AccessedDay = a.Day
			w.putSecret(&old, s)
		}
		if v := w.Version(s, a.Version); v != nil && v.AccessedDay < a.Day {
			v.AccessedDay = a.Day
			w.put(tableVersions, versionKey(s.Account, s.Name, v.ID), encode(v))
		}
	}
	return Outcome{}, nil
}

func (c *PurgeDue) apply(w *writeTx) (Outcome, error) {
	var due []*secret.Secret
	for k := range w.Ascend(tableByDeletion, nil) {
		if len(due) == c.Max || int64(binary.BigEndian.Uint64(k)) > c.At {
			break
		}
		account, name, _ := bytes.Cut(k[8:], []byte{0})
		s := w.ByName(string(account), string(name))
		if s == nil {
			tableByDeletion.Contradicts(k, "names a secret that is missing")
		}
		due = append(due, s)
	}
	for _, s := range due {
		w.removeSecret(s)
	}
	return Outcome{Count: len(due)}, nil
}
