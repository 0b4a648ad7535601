package fsm

import (
	"bytes"

	"coffer/kms"
	"coffer/secret"
)

type (
	// RotateRootKey puts all KMS keys under another root key, in one step. Material that is not among Materials, since
	// it is newer, is a conflict.
	RotateRootKey struct {
		From      string              `cbor:"1,keyasint"` // id of the root key that the cluster must have
		To        string              `cbor:"2,keyasint"`
		Materials []RewrappedMaterial `cbor:"3,keyasint"`
		Spec      string              `cbor:"4,keyasint"` // how nodes reach it
	}
	// RewrapValues replaces wrapped data keys of versions that have not changed meanwhile.
	RewrapValues struct {
		Values []RewrappedValue `cbor:"1,keyasint"`
		At     int64            `cbor:"2,keyasint"`
	}
)

// RewrappedMaterial is one generation of a KMS key's material, wrapped anew, in place of Old.
type RewrappedMaterial struct {
	Old []byte `cbor:"1,keyasint"`
	New []byte `cbor:"2,keyasint"`
}

// RewrappedValue is a version's data key wrapped anew, in place of Old.
type RewrappedValue struct {
	Ref Ref       `cbor:"1,keyasint"`
	New Rewrapped `cbor:"2,keyasint"`
	Old []byte    `cbor:"3,keyasint"`
}

func (c *RotateRootKey) apply(w *writeTx) (Outcome, error) {
	cluster, _ := w.Cluster()
	switch cluster.RootKeyID {
	case c.To:
		return Outcome{}, nil // done
	case c.From:
	default:
		return Outcome{}, kms.ErrConflict
	}
	rewrapped := make(map[string][]byte, len(c.Materials))
	for _, m := range c.Materials {
		rewrapped[string(m.Old)] = m.New
	}
	var keys []*kms.Key
	missing := false
	w.Keys("", "", func(k *kms.Key) bool {
		for generation, m := range k.Materials {
			if len(m.Wrapped) == 0 {
				continue
			}
			anew, found := rewrapped[string(m.Wrapped)]
			k.Materials[generation].Wrapped, missing = anew, missing || !found
		}
		keys = append(keys, k)
		return !missing
	})
	if missing || !w.rewrapReplicationKeys(rewrapped) {
		return Outcome{}, kms.ErrConflict
	}
	for _, k := range keys {
		w.putKey(k)
	}
	cluster.RootKeyID, cluster.RootKey = c.To, c.Spec
	w.put(tableCluster, clusterKey, encode(cluster))
	return Outcome{Count: len(keys)}, nil
}

func (c *RewrapValues) apply(w *writeTx) (Outcome, error) {
	done := 0
	for _, r := range c.Values {
		s := w.ByName(r.Ref.Account, r.Ref.Name)
		if s == nil || s.Suffix != r.Ref.Suffix || w.usable(s.Account, r.New.KeyID, c.At) != nil {
			continue
		}
		v := w.Version(s, r.New.Version)
		if v == nil {
			continue
		}
		if value := w.Value(s, v); value != nil && bytes.Equal(value.WrappedKey, r.Old) && w.rewrap(s, r.New) {
			done++
		}
	}
	return Outcome{Count: done}, nil
}

// WalkValues calls visit with the versions that have a value, of all secrets after the position, until it
// returns false, and answers the position to go on from; nil at the end.
func (t *Tx) WalkValues(after []byte, visit func(*secret.Secret, *secret.Version, *secret.Value) bool) (next []byte) {
	for key, payload := range t.Ascend(tableVersions, after) {
		if bytes.Equal(key, after) {
			continue
		}
		account, rest, _ := bytes.Cut(key, []byte{0})
		name, _, _ := bytes.Cut(rest, []byte{0})
		s := t.ByName(string(account), string(name))
		if s == nil {
			tableVersions.Contradicts(key, "belongs to no secret")
		}
		var v secret.Version
		decode(tableVersions, key, payload, &v)
		value := t.Value(s, &v)
		if value != nil && !visit(s, &v, value) {
			return bytes.Clone(key)
		}
	}
	return nil
}
