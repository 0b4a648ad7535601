package fsm

import (
	"bytes"

	"coffer/secret"
)

type (
	// RewrapValues replaces wrapped data keys of versions that have not changed meanwhile.
	RewrapValues struct {
		Values []RewrappedValue `cbor:"1,keyasint"`
		At     int64            `cbor:"2,keyasint"`
	}
)

// RewrappedValue is a version's data key wrapped anew, in place of Old.
type RewrappedValue struct {
	Ref Ref       `cbor:"1,keyasint"`
	New Rewrapped `cbor:"2,keyasint"`
	Old []byte    `cbor:"3,keyasint"`
}

func (c *RewrapValues) apply(w *writeTx) (Outcome, error) {
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
	for key, payload := range t.Ascend(tableVersions, after) {
		if bytes.Equal(key, after) {
			continue
		}
		account, rest, _ := bytes.Cut(key, []byte{0})
		name, _, _ := bytes.Cut(rest, []byte{0})
		s := t.ByName(string(account), string(name))
		if s == nil {
			tableVersions.Contradicts(key, "belongs to no secret")
		}
		var v secret.Version
		decode(tableVersions, key, payload, &v)
		value := t.Value(s, &v)
		if value != nil && !visit(s, &v, value) {
			return bytes.Clone(key)
		}
	}
	return nil
}
