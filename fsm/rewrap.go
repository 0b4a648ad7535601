package fsm

import (
	"bytes"

	"coffer/kms"
	"coffer/secret"
)

type (
	// RotateRootKey puts all KMS keys under another root key, in one step.
	RotateRootKey struct {
		From string         `cbor:"1,keyasint"` // id of the root key that the cluster must have
		To   string         `cbor:"2,keyasint"`
		Keys []RewrappedKey `cbor:"3,keyasint"` // all of them
	}
	// RewrapValues replaces wrapped data keys of versions that have not changed meanwhile.
	RewrapValues struct {
		Values []RewrappedValue `cbor:"1,keyasint"`
		At     int64            `cbor:"2,keyasint"`
	}
)

// RewrappedKey is a KMS key's material by generation, wrapped anew.
type RewrappedKey struct {
	Ref         KeyRef   `cbor:"1,keyasint"`
	LastCommand []byte   `cbor:"2,keyasint,omitempty"` // of the key that was rewrapped
	Wrapped     [][]byte `cbor:"3,keyasint,omitempty"`
}

// RewrappedValue is a version's data key wrapped anew, in place of Old.
type RewrappedValue struct {
	Ref Ref       `cbor:"1,keyasint"`
	New Rewrapped `cbor:"2,keyasint"`
	Old []byte    `cbor:"3,keyasint"`
}

func (c *RotateRootKey) apply(w *writeTx, _ commandID) (Outcome, error) {
	cluster, _ := w.Cluster()
	switch cluster.RootKeyID {
	case c.To:
		return Outcome{}, nil // done
	case c.From:
	default:
		return Outcome{}, kms.ErrConflict
	}
	var keys []*kms.Key
	w.Keys("", "", func(k *kms.Key) bool {
		keys = append(keys, k)
		return true
	})
	if len(keys) != len(c.Keys) {
		return Outcome{}, kms.ErrConflict
	}
	for i, k := range keys {
		r := c.Keys[i]
		if k.Account != r.Ref.Account || k.ID != r.Ref.ID || !bytes.Equal(k.LastCommand, r.LastCommand) || len(k.Materials) != len(r.Wrapped) {
			return Outcome{}, kms.ErrConflict
		}
	}
	for i, k := range keys {
		for generation, wrapped := range c.Keys[i].Wrapped {
			k.Materials[generation].Wrapped = wrapped
		}
		w.putKey(k)
	}
	cluster.RootKeyID = c.To
	w.put(tableCluster, clusterKey, encode(cluster))
	return Outcome{Count: len(keys)}, nil
}

func (c *RewrapValues) apply(w *writeTx, _ commandID) (Outcome, error) {
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
	from := after
	t.ascend(tableVersions, from, func(key, payload []byte) bool {
		if after != nil && bytes.Equal(key, after) {
			return true
		}
		account, rest, _ := bytes.Cut(key, []byte{0})
		name, _, _ := bytes.Cut(rest, []byte{0})
		s := t.ByName(string(account), string(name))
		if s == nil {
			panic(tableVersions.damaged(key, "belongs to no secret"))
		}
		var v secret.Version
		tableVersions.decode(key, payload, &v)
		value := t.Value(s, &v)
		if value != nil && !visit(s, &v, value) {
			next = bytes.Clone(key)
			return false
		}
		return true
	})
	return next
}
