package fsm

import (
	"coffer/rows"
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
