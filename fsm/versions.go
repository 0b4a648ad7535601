package fsm

import (
	"bytes"
	"coffer/refusal"
	"coffer/secret"
)

// NewVersion is a sealed value that becomes a version.
type NewVersion struct {
	ID         string `cbor:"1,keyasint"`
	KeyID      string `cbor:"2,keyasint"`
	WrappedKey []byte `cbor:"3,keyasint"`
	Sealed     []byte `cbor:"4,keyasint"`
	Binary     bool   `cbor:"5,keyasint,omitempty"`
}

// PutVersion adds a version and attaches Labels to it.
type PutVersion struct {
	Ref     Ref        `cbor:"1,keyasint"`
	At      int64      `cbor:"2,keyasint"`
	Version NewVersion `cbor:"3,keyasint"`
	Labels  []string   `cbor:"4,keyasint,omitempty"`
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

// addVersion stores a version, attaches its labels and cleans up versions that no label holds.
// The caller stores s. A version that exists is a conflict: versions are immutable.
func (w *writeTx) addVersion(s *secret.Secret, v *NewVersion, labels []string, at int64) error {
	key := versionKey(s.Account, s.Name, v.ID)
	if w.Has(tableVersions, key) {
		return refusal.ErrConflict
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
	w.add(tableVersions, versionKey(s.Account, s.Name, v.ID),
		encode(&secret.Version{ID: v.ID, Created: created, KeyID: v.KeyID, Place: place, Revision: s.Revision + 1}))
	w.add(tableValues, valueKey(s.Account, place),
		encode(&secret.Value{WrappedKey: v.WrappedKey, Sealed: v.Sealed, Binary: v.Binary}))
	s.Versions++
}

func (w *writeTx) removeVersion(s *secret.Secret, v secret.Version) {
	w.remove(tableVersions, versionKey(s.Account, s.Name, v.ID))
	w.remove(tableValues, valueKey(s.Account, v.Place))
	w.removed = true
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

// place is where the next value of the batch goes: after all values of earlier entries.
func (w *writeTx) place() uint64 {
	w.placed++
	return w.index<<placeBits | w.placed
}

// placeBits bounds the values of one entry: more than its commands can add.
const placeBits = 16

// Version is the metadata of a version of s, nil if there is none with the id.
func (t *Tx) Version(s *secret.Secret, id string) *secret.Version {
	var v secret.Version
	if !t.get(tableVersions, versionKey(s.Account, s.Name, id), &v) {
		return nil
	}
	return &v
}

// Value is the sealed value of a version of s, nil if it has none.
func (t *Tx) Value(s *secret.Secret, v *secret.Version) *secret.Value {
	if v.Place == 0 {
		return nil
	}
	var value secret.Value
	key := valueKey(s.Account, v.Place)
	if !t.get(tableValues, key, &value) {
		tableValues.Contradicts(key, "is missing")
	}
	return &value
}

// Versions calls visit with the versions of s whose ids are above after, by id, until it returns false.
func (t *Tx) Versions(s *secret.Secret, after string, visit func(*secret.Version) bool) {
	prefix := versionKey(s.Account, s.Name, "")
	from := versionKey(s.Account, s.Name, after)
	for k, payload := range t.Ascend(tableVersions, from) {
		if !bytes.HasPrefix(k, prefix) {
			return
		}
		if after != "" && bytes.Equal(k, from) {
			continue
		}
		var v secret.Version
		decode(tableVersions, k, payload, &v)
		if !visit(&v) {
			return
		}
	}
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
