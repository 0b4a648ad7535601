package fsm

import "bytes"

// ReplicationKey is a key pair that other regions seal to.
type ReplicationKey struct {
	ID      string `cbor:"1,keyasint"`
	Public  []byte `cbor:"2,keyasint"`
	Wrapped []byte `cbor:"3,keyasint"` // the private half under the root key
	Created int64  `cbor:"4,keyasint"`
}

// Binding is the additional data that the private half is wrapped with.
func (k *ReplicationKey) Binding() []byte { return []byte("coffer replication key v1:" + k.ID) }

// keptReplicationKeys is how many key pairs are kept: what was sealed to one of them can be opened.
const keptReplicationKeys = 8

// AddReplicationKey makes a key pair the one that other regions shall seal to.
type AddReplicationKey struct {
	Key   ReplicationKey `cbor:"1,keyasint"`
	Root  string         `cbor:"2,keyasint"`           // root key that Key is wrapped under
	After string         `cbor:"3,keyasint,omitempty"` // id of the current one; another one is a conflict
}

var replicationKeysKey = []byte("replication-keys")

// ReplicationKeys are the region's key pairs, the current one first.
func (t *Tx) ReplicationKeys() []ReplicationKey {
	var keys []ReplicationKey
	t.get(tableCluster, replicationKeysKey, &keys)
	return keys
}

func (c *AddReplicationKey) apply(w *writeTx) (Outcome, error) {
	if err := w.under(c.Root); err != nil {
		return Outcome{}, err
	}
	keys := w.ReplicationKeys()
	current := ""
	if len(keys) > 0 {
		current = keys[0].ID
	}
	if current != c.After {
		return Outcome{}, nil // done, or another node was faster
	}
	keys = append([]ReplicationKey{c.Key}, keys...)
	w.put(tableCluster, replicationKeysKey, encode(keys[:min(len(keys), keptReplicationKeys)]))
	return Outcome{}, nil
}

// rewrapReplicationKeys puts the key pairs under another root key; false if one is not among rewrapped.
func (w *writeTx) rewrapReplicationKeys(rewrapped map[string][]byte) bool {
	keys := w.ReplicationKeys()
	for i := range keys {
		anew, found := rewrapped[string(keys[i].Wrapped)]
		if !found {
			return false
		}
		keys[i].Wrapped = bytes.Clone(anew)
	}
	if keys != nil {
		w.put(tableCluster, replicationKeysKey, encode(keys))
	}
	return true
}
