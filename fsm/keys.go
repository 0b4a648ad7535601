package fsm

import (
	"bytes"
	"slices"

	"coffer/kms"
	"coffer/refusal"
)

// KeyRef names a KMS key.
type KeyRef struct {
	Account string `cbor:"1,keyasint"`
	ID      string `cbor:"2,keyasint"`
}

// The commands about KMS keys. What carries wrapped material says under which root key; one under another root
// key than the cluster's is decided again.
type (
	// CreateKey makes a key.
	CreateKey struct {
		Key  kms.Key `cbor:"1,keyasint"`
		Root string  `cbor:"2,keyasint"`
	}
	// EnableKey enables or disables a key.
	EnableKey struct {
		Ref     KeyRef `cbor:"1,keyasint"`
		At      int64  `cbor:"2,keyasint"`
		Enabled bool   `cbor:"3,keyasint,omitempty"`
	}
	// ScheduleKeyDeletion begins a key's waiting period, which ends at Due.
	ScheduleKeyDeletion struct {
		Ref KeyRef `cbor:"1,keyasint"`
		At  int64  `cbor:"2,keyasint"`
		Due int64  `cbor:"3,keyasint"`
	}
	// CancelKeyDeletion ends the waiting period; the key is disabled.
	CancelKeyDeletion struct {
		Ref KeyRef `cbor:"1,keyasint"`
		At  int64  `cbor:"2,keyasint"`
	}
	// SetKeyDescription replaces a key's description.
	SetKeyDescription struct {
		Ref         KeyRef `cbor:"1,keyasint"`
		At          int64  `cbor:"2,keyasint"`
		Description string `cbor:"3,keyasint,omitempty"`
	}
	// SetKeyPolicy replaces a key's policy.
	SetKeyPolicy struct {
		Ref    KeyRef `cbor:"1,keyasint"`
		At     int64  `cbor:"2,keyasint"`
		Policy string `cbor:"3,keyasint"`
	}
	// TagKey attaches tags.
	TagKey struct {
		Ref  KeyRef    `cbor:"1,keyasint"`
		At   int64     `cbor:"2,keyasint"`
		Tags []kms.Tag `cbor:"3,keyasint"`
	}
	// UntagKey removes tags by key.
	UntagKey struct {
		Ref  KeyRef   `cbor:"1,keyasint"`
		At   int64    `cbor:"2,keyasint"`
		Keys []string `cbor:"3,keyasint"`
	}
	// SetKeyRotation rotates a key every Period days, or no more if Period is 0.
	SetKeyRotation struct {
		Ref    KeyRef `cbor:"1,keyasint"`
		At     int64  `cbor:"2,keyasint"`
		Period int    `cbor:"3,keyasint,omitempty"`
	}
)

// changeKey loads the key that ref names, lets do change it, and stores it.
func (w *writeTx) changeKey(ref KeyRef, at int64, do func(kms.Change) error) (Outcome, error) {
	k := w.Key(ref.Account, ref.ID)
	if k == nil {
		return Outcome{}, refusal.ErrConflict
	}
	changed := *k
	if err := do(w.changeOf(&changed, at)); err != nil {
		return Outcome{}, err
	}
	w.putKey(&changed)
	return Outcome{}, nil
}

func (w *writeTx) changeOf(k *kms.Key, at int64) kms.Change {
	cluster, _ := w.Cluster()
	return kms.Change{Key: k, ARN: k.ARN(cluster.Region), At: at}
}

func (w *writeTx) putKey(k *kms.Key) {
	w.put(tableKeys, secretKey(k.Account, k.ID), encode(k))
}

// under refuses what was wrapped under another root key than the cluster's.
func (w *writeTx) under(root string) error {
	if cluster, _ := w.Cluster(); cluster.RootKeyID != root {
		return refusal.ErrConflict
	}
	return nil
}

// usable refuses a key that can't encrypt secrets at the moment: what was sealed under it is decided again.
func (w *writeTx) usable(account, id string, at int64) error {
	k := w.Key(account, id)
	if k == nil || (kms.Change{Key: k, At: at}).Usable() != nil {
		return refusal.ErrConflict
	}
	return nil
}

func (c *CreateKey) apply(w *writeTx) (Outcome, error) {
	if err := w.under(c.Root); err != nil {
		return Outcome{}, err
	}
	if old := w.Key(c.Key.Account, c.Key.ID); old != nil {
		return Outcome{}, refusal.ErrConflict // another id is drawn
	}
	w.putKey(&c.Key)
	return Outcome{}, nil
}

func (c *EnableKey) apply(w *writeTx) (Outcome, error) {
	return w.changeKey(c.Ref, c.At, func(k kms.Change) error { return k.SetEnabled(c.Enabled) })
}

func (c *ScheduleKeyDeletion) apply(w *writeTx) (Outcome, error) {
	return w.changeKey(c.Ref, c.At, func(k kms.Change) error { return k.ScheduleDeletion(c.Due) })
}

func (c *CancelKeyDeletion) apply(w *writeTx) (Outcome, error) {
	return w.changeKey(c.Ref, c.At, func(k kms.Change) error { return k.CancelDeletion() })
}

func (c *SetKeyDescription) apply(w *writeTx) (Outcome, error) {
	return w.changeKey(c.Ref, c.At, func(k kms.Change) error { return k.SetDescription(c.Description) })
}

func (c *SetKeyPolicy) apply(w *writeTx) (Outcome, error) {
	return w.changeKey(c.Ref, c.At, func(k kms.Change) error { return k.SetPolicy(c.Policy) })
}

func (c *TagKey) apply(w *writeTx) (Outcome, error) {
	return w.changeKey(c.Ref, c.At, func(k kms.Change) error { return k.Tag(c.Tags) })
}

func (c *UntagKey) apply(w *writeTx) (Outcome, error) {
	return w.changeKey(c.Ref, c.At, func(k kms.Change) error { return k.Untag(c.Keys) })
}

func (c *SetKeyRotation) apply(w *writeTx) (Outcome, error) {
	return w.changeKey(c.Ref, c.At, func(k kms.Change) error {
		if c.Period == 0 {
			return k.DisableRotation()
		}
		return k.EnableRotation(c.Period)
	})
}

// removeKey deletes a key with its material and aliases.
func (w *writeTx) removeKey(k *kms.Key) {
	var aliases []string
	w.Aliases(k.Account, "", func(a *kms.Alias) bool {
		if a.KeyID == k.ID {
			aliases = append(aliases, a.Name)
		}
		return true
	})
	for _, name := range aliases {
		w.remove(tableAliases, secretKey(k.Account, name))
	}
	w.remove(tableKeys, secretKey(k.Account, k.ID))
}

// Key is the KMS key with the id, nil if there is none. It is shared with other readers and must not be changed.
func (t *Tx) Key(account, id string) *kms.Key {
	return cached[kms.Key](t, tableKeys, secretKey(account, id))
}

// Keys calls visit with the keys of account whose ids are above after, by id, until it returns false. With no
// account it visits those of all accounts.
func (t *Tx) Keys(account, after string, visit func(*kms.Key) bool) {
	walk(t, tableKeys, account, after, visit)
}

func walk[T any](t *Tx, in table, account, after string, visit func(*T) bool) {
	prefix, from := []byte(nil), []byte(nil)
	if account != "" {
		prefix, from = secretKey(account, ""), secretKey(account, after)
	}
	for key, payload := range t.Ascend(in, from) {
		if !bytes.HasPrefix(key, prefix) {
			return
		}
		if after != "" && slices.Equal(key, from) {
			continue
		}
		v := new(T)
		decode(in, key, payload, v)
		if !visit(v) {
			return
		}
	}
}
