package fsm

import (
	"bytes"

	"go.etcd.io/bbolt"

	"coffer/kms"
	"coffer/secret"
)

// Tx is a transaction over one state. Its methods verify what they read; damage ends the transaction
// with ErrDamaged at Store.View. Values that they return are copies.
type Tx struct{ tx *bbolt.Tx }

func (t *Tx) bucket(in table) *bbolt.Bucket { return t.tx.Bucket(tableNames[in]) }

// get decodes the row of key into v and reports whether there is one. Where there is none its
// neighbours are verified, so that a row whose key was damaged is not taken for one that never was.
func (t *Tx) get(in table, key []byte, v any) bool {
	b := t.bucket(in)
	row := b.Get(key)
	if row == nil {
		c := b.Cursor()
		if k, row := c.Seek(key); k != nil {
			in.open(k, row)
		}
		if k, row := c.Prev(); k != nil {
			in.open(k, row)
		}
		return false
	}
	in.decode(key, in.open(key, row), v)
	return true
}

var clusterKey = []byte("cluster")

// Cluster is what this cluster is; false before it was formed.
func (t *Tx) Cluster() (Cluster, bool) {
	var c Cluster
	ok := t.get(tableCluster, clusterKey, &c)
	return c, ok
}

// Key is the KMS key with the id, nil if there is none.
func (t *Tx) Key(account, id string) *kms.Key {
	var k kms.Key
	if !t.get(tableKeys, secretKey(account, id), &k) {
		return nil
	}
	return &k
}

// ByName is the secret that has the name, live or scheduled for deletion; nil if there is none.
func (t *Tx) ByName(account, name string) *secret.Secret {
	var s secret.Secret
	if !t.get(tableSecrets, secretKey(account, name), &s) {
		return nil
	}
	return &s
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
func (t *Tx) Value(s *secret.Secret, id string) *secret.Value {
	var v secret.Value
	if !t.get(tableValues, versionKey(s.Account, s.Name, id), &v) {
		return nil
	}
	return &v
}

// Versions calls visit with the versions of s whose ids are above after, by id, until it returns false.
func (t *Tx) Versions(s *secret.Secret, after string, visit func(*secret.Version) bool) {
	prefix := versionKey(s.Account, s.Name, "")
	from := versionKey(s.Account, s.Name, after)
	c := t.bucket(tableVersions).Cursor()
	k, row := c.Seek(from)
	if after != "" && bytes.Equal(k, from) {
		k, row = c.Next()
	}
	for ; k != nil; k, row = c.Next() {
		payload := tableVersions.open(k, row)
		if !bytes.HasPrefix(k, prefix) {
			return
		}
		var v secret.Version
		tableVersions.decode(k, payload, &v)
		if !visit(&v) {
			return
		}
	}
}
