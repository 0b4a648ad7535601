package fsm

import (
	"coffer/kms"

	"coffer/refusal"
)

// RotateRootKey puts all KMS keys under another root key, in one step. Material that is not among Materials, since
// it is newer, is a conflict.
type RotateRootKey struct {
	From      string              `cbor:"1,keyasint"` // id of the root key that the cluster must have
	To        string              `cbor:"2,keyasint"`
	Materials []RewrappedMaterial `cbor:"3,keyasint"`
	Spec      string              `cbor:"4,keyasint"` // how nodes reach it
}

// RewrappedMaterial is one generation of a KMS key's material, wrapped anew, in place of Old.
type RewrappedMaterial struct {
	Old []byte `cbor:"1,keyasint"`
	New []byte `cbor:"2,keyasint"`
}

func (c *RotateRootKey) apply(w *writeTx) (Outcome, error) {
	cluster, _ := w.Cluster()
	switch cluster.RootKeyID {
	case c.To:
		return Outcome{}, nil // done
	case c.From:
	default:
		return Outcome{}, refusal.ErrConflict
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
		return Outcome{}, refusal.ErrConflict
	}
	for _, k := range keys {
		w.putKey(k)
	}
	cluster.RootKeyID, cluster.RootKey = c.To, c.Spec
	w.put(tableCluster, clusterKey, encode(cluster))
	return Outcome{Count: len(keys)}, nil
}
