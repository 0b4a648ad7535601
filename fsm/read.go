package fsm

import (
	"bytes"
	"maps"
	"slices"

	"go.etcd.io/bbolt"

	"coffer/secret"
)

// Tx is a transaction over one state. Its methods verify what they read; damage ends the transaction
// with ErrDamaged at Store.View. What they return stays valid after it.
type Tx struct {
	tx      *bbolt.Tx
	buckets [tables]*bbolt.Bucket // those that were used
	layers  [4]*layer             // newest first, each newer than tx; nil ones are empty
	cache   *cache                // of decoded rows; nil where they will be changed
}

func (t *Tx) bucket(in table) *bbolt.Bucket {
	if t.buckets[in] == nil {
		t.buckets[in] = t.tx.Bucket(tableNames[in])
	}
	return t.buckets[in]
}

// row is the stored row of key, nil if there is none.
func (t *Tx) row(in table, key []byte) []byte {
	row, _ := t.find(in, key)
	return row
}

func (t *Tx) find(in table, key []byte) (row []byte, layered bool) {
	for _, l := range t.layers {
		if l != nil {
			if row, ok := l.rows[in][string(key)]; ok {
				return row, true
			}
		}
	}
	return t.bucket(in).Get(key), false
}

// get decodes the row of key into v and reports whether there is one. Where there is none its
// neighbours are verified, so that a row whose key was damaged is not taken for one that never was.
func (t *Tx) get(in table, key []byte, v any) bool {
	row, layered := t.find(in, key)
	if row == nil {
		if !layered {
			t.verifyNeighbours(in, key)
		}
		return false
	}
	in.decode(key, in.open(key, row), v)
	return true
}

// verifyNeighbours verifies the rows on both sides of a key that was not found, and that the key belongs
// between them: a damaged page above would have led elsewhere.
func (t *Tx) verifyNeighbours(in table, key []byte) {
	c := t.bucket(in).Cursor()
	if k, row := c.Seek(key); k != nil {
		in.open(k, row)
		if bytes.Compare(k, key) <= 0 {
			panic(in.damaged(key, "is looked for in the wrong place"))
		}
	}
	if k, row := c.Prev(); k != nil {
		in.open(k, row)
		if bytes.Compare(k, key) >= 0 {
			panic(in.damaged(key, "is looked for in the wrong place"))
		}
	}
}

// ascend visits the rows of a table from a key on, by key, until visit returns false. It costs the size of
// the layers besides what it visits.
func (t *Tx) ascend(in table, from []byte, visit func(key, payload []byte) bool) {
	layered := map[string][]byte{}
	for _, l := range t.layers {
		if l == nil {
			continue
		}
		for k, row := range l.rows[in] {
			if _, newer := layered[k]; !newer && k >= string(from) {
				layered[k] = row
			}
		}
	}
	keys := slices.Sorted(maps.Keys(layered))
	c := t.bucket(in).Cursor()
	k, row := c.Seek(from)
	for k != nil || len(keys) > 0 {
		key, stored := k, row
		if len(keys) > 0 && (k == nil || keys[0] <= string(k)) {
			key, stored = []byte(keys[0]), layered[keys[0]]
			if string(k) == keys[0] {
				k, row = c.Next()
			}
			keys = keys[1:]
		} else {
			k, row = c.Next()
		}
		if stored != nil && !visit(key, in.open(key, stored)) {
			return
		}
	}
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
	return cached[secret.Secret](t, tableSecrets, secretKey(account, name))
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
		panic(tableValues.damaged(key, "is missing"))
	}
	return &value
}

// Versions calls visit with the versions of s whose ids are above after, by id, until it returns false.
func (t *Tx) Versions(s *secret.Secret, after string, visit func(*secret.Version) bool) {
	prefix := versionKey(s.Account, s.Name, "")
	from := versionKey(s.Account, s.Name, after)
	t.ascend(tableVersions, from, func(k, payload []byte) bool {
		if !bytes.HasPrefix(k, prefix) {
			return false
		}
		if after != "" && bytes.Equal(k, from) {
			return true
		}
		var v secret.Version
		tableVersions.decode(k, payload, &v)
		return visit(&v)
	})
}
