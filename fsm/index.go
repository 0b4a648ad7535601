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
