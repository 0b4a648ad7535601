package fsm

import (
	"bytes"

	"coffer/rows"
	"coffer/secret"
)

// Tx is a transaction over one state. Its methods verify what they read; damage ends the transaction
// with ErrDamaged at Store.View. What they return stays valid after it.
type Tx struct{ *rows.Tx }

// get decodes the row of key into v and reports whether there is one.
func (t *Tx) get(in table, key []byte, v any) bool {
	payload := t.Get(in, key)
	if payload == nil {
		return false
	}
	decode(in, key, payload, v)
	return true
}

// cached decodes the row of key, or finds it decoded; nil if there is none.
func cached[T any](t *Tx, in table, key []byte) *T {
	payload := t.Get(in, key)
	return rows.Decoded(t.Tx, key, payload, func() *T {
		v := new(T)
		decode(in, key, payload, v)
		return v
	})
}

var clusterKey = []byte("cluster")

// Cluster is what this cluster is; false before it was formed.
func (t *Tx) Cluster() (Cluster, bool) {
	c := cached[Cluster](t, tableCluster, clusterKey)
	if c == nil {
		return Cluster{}, false
	}
	return *c, true
}

// ByName is the secret that has the name, live or scheduled for deletion; nil if there is none. It is
// shared with other readers and must not be changed.
func (t *Tx) ByName(account, name string) *secret.Secret {
	key := secretKey(account, name)
	return secretOf(t.Tx, key, t.Get(tableSecrets, key))
}

// Find is the secret that id means in account; nil if there is none.
func (t *Tx) Find(account string, id secret.ID) *secret.Secret {
	var found *secret.Secret
	id.Candidates(func(name, suffix string) bool {
		s := t.ByName(account, name)
		if s != nil && (suffix == "" || s.Suffix == suffix) {
			found = s
		}
		return found != nil
	})
	return found
}

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
