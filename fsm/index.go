package fsm

import (
	"coffer/rows"
	"coffer/secret"
)

// index orders secrets by a time. Its rows are derived from the secrets' rows.
type index struct {
	table table
	at    func(*secret.Secret) (at int64, in bool)
	key   func(at int64, account, name string) []byte
}

// listed is an index that lists walk: without what was displaced.
func listed(t table, at func(*secret.Secret) int64) index {
	return index{t, func(s *secret.Secret) (int64, bool) { return at(s), s.Displaced == nil },
		func(at int64, account, name string) []byte { return timeKey(account, at, name) }}
}

var indexes = []index{
	listed(tableByCreated, func(s *secret.Secret) int64 { return s.Created }),
	listed(tableByChanged, func(s *secret.Secret) int64 { return s.Changed }),
	listed(tableByAccessed, func(s *secret.Secret) int64 { return s.AccessedDay }),
	{tableByDeletion, func(s *secret.Secret) (int64, bool) { return s.Deleted, s.Deleted != 0 }, deletionKey},
}

// indexSecret keeps the indexes up with a secret's row ([rows.Table]).
func indexSecret(w *rows.Writer, key, old, new []byte) {
	was, is := secretOf(w.Tx, key, old), secretOf(w.Tx, key, new)
	for _, i := range indexes {
		var before, after int64
		var had, has bool
		if was != nil {
			before, had = i.at(was)
		}
		if is != nil {
			after, has = i.at(is)
		}
		if had && has && before == after {
			continue
		}
		if had {
			w.Remove(i.table, i.key(before, was.Account, was.Name))
		}
		if has {
			w.Add(i.table, i.key(after, is.Account, is.Name), rows.NewRow(nil))
		}
	}
}

// secretOf decodes a secret's row, or finds it decoded; nil if there is none. It must not be changed.
func secretOf(tx *rows.Tx, key, payload []byte) *secret.Secret {
	return rows.Decoded(tx, key, payload, func() *secret.Secret {
		s := new(secret.Secret)
		decodeSecret(key, payload, s)
		return s
	})
}

// putSecret stores s, whose stored form until now was old (nil for a new secret); no s removes it. Its index rows
// follow.
func (w *writeTx) putSecret(old, s *secret.Secret) {
	if s == nil {
		w.remove(tableSecrets, secretKey(old.Account, old.Name))
		return
	}
	row := encode(s)
	stored := *s
	w.Remember(row.Payload(), &stored)
	w.put(tableSecrets, secretKey(s.Account, s.Name), row)
}

// ByName is [Tx.ByName] for a secret that is about to be changed: it is shared with nobody.
func (w *writeTx) ByName(account, name string) *secret.Secret {
	s := w.Tx.ByName(account, name)
	if s == nil {
		return nil
	}
	own := *s
	return &own
}

// removeSecret deletes a secret with all that belongs to it.
func (w *writeTx) removeSecret(s *secret.Secret) {
	w.keepOnly(s, nil)
	w.unlink(s)
	w.putSecret(s, nil)
}

func (w *writeTx) removeVersion(s *secret.Secret, v secret.Version) {
	w.remove(tableVersions, versionKey(s.Account, s.Name, v.ID))
	w.remove(tableValues, valueKey(s.Account, v.Place))
	w.removed = true
}
