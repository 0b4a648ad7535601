package fsm

import (
	"bytes"
	"slices"

	"coffer/kms"
	"coffer/secret"
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
	// RotateKey makes Material, drawn for Generation, a key's current one.
	RotateKey struct {
		Ref        KeyRef       `cbor:"1,keyasint"`
		At         int64        `cbor:"2,keyasint"`
		Material   kms.Material `cbor:"3,keyasint"`
		Generation int          `cbor:"4,keyasint"`
		Automatic  bool         `cbor:"5,keyasint,omitempty"`
		Root       string       `cbor:"6,keyasint"`
	}
	// RotateToImported makes the imported material that waits for a rotation the current one.
	RotateToImported struct {
		Ref KeyRef `cbor:"1,keyasint"`
		At  int64  `cbor:"2,keyasint"`
	}
	// ImportMaterial takes imported material, wrapped for Generation.
	ImportMaterial struct {
		Ref        KeyRef       `cbor:"1,keyasint"`
		At         int64        `cbor:"2,keyasint"`
		Material   kms.Material `cbor:"3,keyasint"`
		Generation int          `cbor:"4,keyasint"`
		Import     kms.Import   `cbor:"5,keyasint"`
		Root       string       `cbor:"6,keyasint"`
	}
	// DeleteMaterial deletes imported material.
	DeleteMaterial struct {
		Ref        KeyRef `cbor:"1,keyasint"`
		At         int64  `cbor:"2,keyasint"`
		MaterialID string `cbor:"3,keyasint"`
	}
	// SetAlias makes an alias, or points one that exists to another key.
	SetAlias struct {
		Ref  KeyRef `cbor:"1,keyasint"`
		At   int64  `cbor:"2,keyasint"`
		Name string `cbor:"3,keyasint"`
		New  bool   `cbor:"4,keyasint,omitempty"`
	}
	// DeleteAlias removes an alias.
	DeleteAlias struct {
		Account string `cbor:"1,keyasint"`
		Name    string `cbor:"2,keyasint"`
	}
	// EndKeys deletes keys whose waiting period ended before At, and imported material that expired before.
	EndKeys struct {
		At   int64    `cbor:"1,keyasint"`
		Keys []KeyRef `cbor:"2,keyasint"` // those to look at
	}
)

// changeKey loads the key that ref names, lets do change it, and stores it.
func (w *writeTx) changeKey(ref KeyRef, at int64, do func(kms.Change) error) (Outcome, error) {
	k := w.Key(ref.Account, ref.ID)
	if k == nil {
		return Outcome{}, kms.ErrConflict
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
		return kms.ErrConflict
	}
	return nil
}

// usable refuses a key that can't encrypt secrets at the moment: what was sealed under it is decided again.
func (w *writeTx) usable(account, id string, at int64) error {
	k := w.Key(account, id)
	if k == nil || (kms.Change{Key: k, At: at}).Usable() != nil {
		return secret.ErrConflict
	}
	return nil
}

func (c *CreateKey) apply(w *writeTx) (Outcome, error) {
	if err := w.under(c.Root); err != nil {
		return Outcome{}, err
	}
	if old := w.Key(c.Key.Account, c.Key.ID); old != nil {
		return Outcome{}, kms.ErrConflict // another id is drawn
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

func (c *RotateKey) apply(w *writeTx) (Outcome, error) {
	if err := w.under(c.Root); err != nil {
		return Outcome{}, err
	}
	return w.changeKey(c.Ref, c.At, func(k kms.Change) error {
		if len(k.Key.Materials) != c.Generation {
			return kms.ErrConflict
		}
		return k.Rotate(c.Material, c.Automatic)
	})
}

func (c *RotateToImported) apply(w *writeTx) (Outcome, error) {
	return w.changeKey(c.Ref, c.At, func(k kms.Change) error { return k.RotateToPending() })
}

func (c *ImportMaterial) apply(w *writeTx) (Outcome, error) {
	if err := w.under(c.Root); err != nil {
		return Outcome{}, err
	}
	return w.changeKey(c.Ref, c.At, func(k kms.Change) error {
		if k.Key.ImportGeneration(c.Material.ID) != c.Generation {
			return kms.ErrConflict
		}
		return k.Import(c.Material, c.Import)
	})
}

func (c *DeleteMaterial) apply(w *writeTx) (Outcome, error) {
	return w.changeKey(c.Ref, c.At, func(k kms.Change) error {
		_, err := k.DeleteMaterial(c.MaterialID)
		return err
	})
}

func (c *SetAlias) apply(w *writeTx) (Outcome, error) {
	target := w.Key(c.Ref.Account, c.Ref.ID)
	if target == nil {
		return Outcome{}, kms.ErrConflict
	}
	cluster, _ := w.Cluster()
	arn := kms.AliasARN(cluster.Region, c.Ref.Account, c.Name)
	old := w.Alias(c.Ref.Account, c.Name)
	switch {
	case target.DeletionAt != 0:
		return Outcome{}, kms.Errorf(kms.KindInvalidState, "%s is pending deletion.", target.ARN(cluster.Region))
	case target.Managed:
		return Outcome{}, kms.Errorf(kms.KindAccessDenied, "%s is managed by the service: it takes no other alias.", target.ARN(cluster.Region))
	case c.New && old != nil:
		return Outcome{}, kms.Errorf(kms.KindExists, "An alias with the name %s already exists", arn)
	case !c.New && old == nil:
		return Outcome{}, kms.Errorf(kms.KindNotFound, "Alias %s is not found.", arn)
	}
	alias := kms.Alias{Name: c.Name, KeyID: c.Ref.ID, Created: c.At, Updated: c.At}
	if old != nil {
		if from := w.Key(c.Ref.Account, old.KeyID); from != nil && from.Spec.Usage() != target.Spec.Usage() {
			return Outcome{}, kms.Errorf(kms.KindInvalidState, "The alias %s can't move to a key with another key usage.", arn)
		}
		alias.Created = old.Created
	}
	w.put(tableAliases, secretKey(c.Ref.Account, c.Name), encode(alias))
	return Outcome{}, nil
}

func (c *DeleteAlias) apply(w *writeTx) (Outcome, error) {
	if w.Alias(c.Account, c.Name) == nil {
		return Outcome{}, kms.ErrConflict
	}
	w.remove(tableAliases, secretKey(c.Account, c.Name))
	return Outcome{}, nil
}

func (c *EndKeys) apply(w *writeTx) (Outcome, error) {
	for _, ref := range c.Keys {
		k := w.Key(ref.Account, ref.ID)
		switch {
		case k == nil:
		case k.DeletionAt != 0 && k.DeletionAt <= c.At:
			w.removeKey(k)
		case k.Expired(c.At):
			changed := *k
			w.changeOf(&changed, c.At).Expire()
			w.putKey(&changed)
		}
	}
	return Outcome{Count: len(c.Keys)}, nil
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

// Alias is the alias with the name, nil if there is none.
func (t *Tx) Alias(account, name string) *kms.Alias {
	return cached[kms.Alias](t, tableAliases, secretKey(account, name))
}

// Keys calls visit with the keys of account whose ids are above after, by id, until it returns false. With no
// account it visits those of all accounts.
func (t *Tx) Keys(account, after string, visit func(*kms.Key) bool) {
	walk(t, tableKeys, account, after, visit)
}

// Aliases calls visit with the aliases of account whose names are above after, by name, until it returns false.
func (t *Tx) Aliases(account, after string, visit func(*kms.Alias) bool) {
	walk(t, tableAliases, account, after, visit)
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
