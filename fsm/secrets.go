package fsm

import (
	"coffer/rows"
	"coffer/secret"
)

// ByName is the secret that has the name, live or scheduled for deletion; nil if there is none. It is
// shared with other readers and must not be changed.
func (t *Tx) ByName(account, name string) *secret.Secret {
	key := secretKey(account, name)
	return secretOf(t.Tx, key, t.Get(tableSecrets, key))
}

// fresh is [Tx.ByName] for a walk. It decodes each row, since those that a walk reads are seldom read again soon, and
// would drive out of the cache what is.
func (t *Tx) fresh(account, name string) *secret.Secret {
	key := secretKey(account, name)
	payload := t.Get(tableSecrets, key)
	if payload == nil {
		return nil
	}
	s := new(secret.Secret)
	decodeSecret(key, payload, s)
	return s
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

// secretOf decodes a secret's row, or finds it decoded; nil if there is none. It must not be changed.
func secretOf(tx *rows.Tx, key, payload []byte) *secret.Secret {
	return rows.Decoded(tx, key, payload, func() *secret.Secret {
		s := new(secret.Secret)
		decodeSecret(key, payload, s)
		return s
	})
}
