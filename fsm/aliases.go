package fsm

import (
	"coffer/kms"

	"coffer/refusal"
)

// SetAlias makes an alias, or points one that exists to another key.
type SetAlias struct {
	Ref  KeyRef `cbor:"1,keyasint"`
	At   int64  `cbor:"2,keyasint"`
	Name string `cbor:"3,keyasint"`
	New  bool   `cbor:"4,keyasint,omitempty"`
}

// DeleteAlias removes an alias.
type DeleteAlias struct {
	Account string `cbor:"1,keyasint"`
	Name    string `cbor:"2,keyasint"`
}

func (c *SetAlias) apply(w *writeTx) (Outcome, error) {
	target := w.Key(c.Ref.Account, c.Ref.ID)
	if target == nil {
		return Outcome{}, refusal.ErrConflict
	}
	cluster, _ := w.Cluster()
	arn := kms.AliasARN(cluster.Region, c.Ref.Account, c.Name)
	old := w.Alias(c.Ref.Account, c.Name)
	switch {
	case target.DeletionAt != 0:
		return Outcome{}, refusal.Errorf(kms.KindInvalidState, "%s is pending deletion.", target.ARN(cluster.Region))
	case target.Managed:
		return Outcome{}, refusal.Errorf(kms.KindAccessDenied, "%s is managed by the service: it takes no other alias.",
			target.ARN(cluster.Region))
	case c.New && old != nil:
		return Outcome{}, refusal.Errorf(kms.KindExists, "An alias with the name %s already exists", arn)
	case !c.New && old == nil:
		return Outcome{}, refusal.Errorf(kms.KindNotFound, "Alias %s is not found.", arn)
	}
	alias := kms.Alias{Name: c.Name, KeyID: c.Ref.ID, Created: c.At, Updated: c.At}
	if old != nil {
		if from := w.Key(c.Ref.Account, old.KeyID); from != nil && from.Spec.Usage() != target.Spec.Usage() {
			return Outcome{}, refusal.Errorf(kms.KindInvalidState, "The alias %s can't move to a key with another key usage.",
				arn)
		}
		alias.Created = old.Created
	}
	w.put(tableAliases, secretKey(c.Ref.Account, c.Name), encode(alias))
	return Outcome{}, nil
}

func (c *DeleteAlias) apply(w *writeTx) (Outcome, error) {
	if w.Alias(c.Account, c.Name) == nil {
		return Outcome{}, refusal.ErrConflict
	}
	w.remove(tableAliases, secretKey(c.Account, c.Name))
	return Outcome{}, nil
}

// Alias is the alias with the name, nil if there is none.
func (t *Tx) Alias(account, name string) *kms.Alias {
	return cached[kms.Alias](t, tableAliases, secretKey(account, name))
}

// Aliases calls visit with the aliases of account whose names are above after, by name, until it returns false.
func (t *Tx) Aliases(account, after string, visit func(*kms.Alias) bool) {
	walk(t, tableAliases, account, after, visit)
}
