package fsm

import (
	"bytes"
	"iter"
	"slices"

	"coffer/secret"
)

// Order is what a list of secrets is sorted by.
type Order int

// The orders.
const (
	ByCreated Order = iota
	ByChanged
	ByAccessed
	ByName
)

func (o Order) table() table {
	return [...]table{tableByCreated, tableByChanged, tableByAccessed, tableSecrets}[o]
}

func (o Order) key(s *secret.Secret) []byte {
	switch o {
	case ByCreated:
		return timeKey(s.Account, s.Created, s.Name)
	case ByChanged:
		return timeKey(s.Account, s.Changed, s.Name)
	case ByAccessed:
		return timeKey(s.Account, s.AccessedDay, s.Name)
	}
	return secretKey(s.Account, s.Name)
}

// List says which secrets of an account to walk, and how.
type List struct {
	Account    string
	Order      Order
	Descending bool
	NamePrefix string // only names that start with it
	Cursor     []byte // where the last walk ended; nil starts
}

// How far one walk goes: a list with a filter that matches little ends early, with a cursor.
const (
	maxExamined = 10_000
	maxSorted   = 1_000
)

// Secrets walks the secrets that l describes and calls visit with each until it returns false. It
// answers the cursor to go on from, nil when all were visited. A walk follows an index, so it costs
// what it visits and not what is stored; names with a rare prefix are fetched by name and sorted.
func (t *Tx) Secrets(l List, visit func(*secret.Secret) bool) []byte {
	if l.NamePrefix != "" && l.Order != ByName {
		if few := t.withPrefix(l); few != nil {
			return walkSorted(l, few, visit)
		}
	}
	lower := append([]byte(l.Account), 0)
	nameAt := len(lower) + 8
	if l.Order == ByName {
		lower, nameAt = append(lower, l.NamePrefix...), len(lower)
	}
	in := l.Order.table()
	examined := 0
	for k, payload := range t.from(in, lower, l) {
		if !bytes.HasPrefix(k, lower) {
			break
		}
		examined++
		name := k[nameAt:]
		more := true
		if l.Order == ByName {
			var s secret.Secret
			decodeSecret(k, payload, &s)
			more = s.Displaced != nil || visit(&s)
		} else if bytes.HasPrefix(name, []byte(l.NamePrefix)) {
			s := t.fresh(l.Account, string(name))
			if s == nil {
				in.Contradicts(k, "names a secret that is missing")
			}
			more = visit(s)
		}
		if !more || examined == maxExamined {
			return bytes.Clone(k)
		}
	}
	return nil
}

// from walks the keys with a prefix, from where the last walk ended.
func (t *Tx) from(in table, prefix []byte, l List) iter.Seq2[[]byte, []byte] {
	switch {
	case l.Descending && l.Cursor != nil:
		return t.Descend(in, l.Cursor)
	case l.Descending:
		return t.Descend(in, after(prefix))
	case l.Cursor != nil:
		return t.Ascend(in, append(bytes.Clone(l.Cursor), 0)) // the next key that can be
	}
	return t.Ascend(in, prefix)
}

// after is the lowest key above all that start with prefix; nil if there is none.
func after(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// withPrefix fetches the secrets whose names start with l.NamePrefix; nil if there are too many to sort.
func (t *Tx) withPrefix(l List) []*secret.Secret {
	prefix := secretKey(l.Account, l.NamePrefix)
	rows := make([][2][]byte, 0, 128)
	for k, payload := range t.Ascend(tableSecrets, prefix) {
		if !bytes.HasPrefix(k, prefix) {
			break
		}
		if len(rows) == maxSorted {
			return nil
		}
		rows = append(rows, [2][]byte{k, payload})
	}
	few := make([]*secret.Secret, len(rows))
	all := make([]secret.Secret, len(rows)) // one allocation
	for i, r := range rows {
		few[i] = &all[i]
		decodeSecret(r[0], r[1], few[i])
	}
	return few
}

func walkSorted(l List, few []*secret.Secret, visit func(*secret.Secret) bool) []byte {
	type entry struct {
		key []byte
		s   *secret.Secret
	}
	entries := make([]entry, len(few))
	for i, s := range few {
		entries[i] = entry{l.Order.key(s), s}
	}
	order := func(a, b []byte) int {
		if l.Descending {
			return bytes.Compare(b, a)
		}
		return bytes.Compare(a, b)
	}
	slices.SortFunc(entries, func(a, b entry) int { return order(a.key, b.key) })
	for _, e := range entries {
		if (l.Cursor == nil || order(e.key, l.Cursor) > 0) && !visit(e.s) {
			return e.key
		}
	}
	return nil
}
