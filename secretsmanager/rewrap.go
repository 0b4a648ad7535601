package secretsmanager

import (
	"cmp"
	"context"
	"slices"

	"coffer/fsm"
	"coffer/kms"
	"coffer/secret"
	"coffer/serving"
)

// rewrapBatch bounds the versions that one step looks at, and rewrapCommand those that one command changes.
const (
	rewrapBatch   = 2_000
	rewrapCommand = 200
)

// RewrapProgress is what one step of a rewrap did.
type RewrapProgress struct {
	Seen      int    `json:"seen"`      // versions looked at
	Rewrapped int    `json:"rewrapped"` // of them brought to their key's current material
	Failed    int    `json:"failed"`    // of them under keys that can't be used at the moment
	Next      []byte `json:"next"`      // where to go on; empty at the end
}

// Rewrap brings data keys to the current material of their KMS keys: those of up to 2,000 versions behind the
// position after. Steps may be repeated, and go on at any node.
func (s *Service) Rewrap(ctx context.Context, after []byte) (RewrapProgress, error) {
	var p RewrapProgress
	var changes []fsm.RewrappedValue
	ctx = serving.WithCall(ctx, &serving.Call{Consistency: serving.Strong})
	err := s.read(ctx, func(v *view) error {
		p, changes = RewrapProgress{}, nil
		p.Next = v.WalkValues(after, func(found *secret.Secret, version *secret.Version, value *secret.Value) bool {
			p.Seen++
			v.Account = found.Account
			if v.outdated(version, value) {
				change, err := v.renewed(found, version, value)
				if err != nil {
					p.Failed++
				} else {
					changes = append(changes, change)
				}
			}
			return p.Seen < rewrapBatch
		})
		return nil
	})
	if err != nil {
		return p, err
	}
	for len(changes) > 0 {
		n := min(len(changes), rewrapCommand)
		out, err := s.Propose(ctx, &fsm.RewrapValues{Values: changes[:n], At: s.Millis()})
		if err != nil {
			return p, err
		}
		p.Rewrapped += out.Count
		changes = changes[n:]
	}
	return p, nil
}

// renewed wraps the data key of a version under its key's current material.
func (v *view) renewed(s *secret.Secret, version *secret.Version, value *secret.Value) (fsm.RewrappedValue, error) {
	key, err := v.usableKey(version.KeyID)
	if err != nil {
		return fsm.RewrappedValue{}, err
	}
	again, err := v.rewrap(key, v.arn(s), version.ID, value.WrappedKey)
	return fsm.RewrappedValue{Ref: refTo(s), New: again, Old: value.WrappedKey}, err
}

// outdated reports whether a version's data key is wrapped under older material than its key's current.
func (v *view) outdated(version *secret.Version, value *secret.Value) bool {
	header, err := kms.ParseHeader(value.WrappedKey)
	if err != nil {
		return false
	}
	key := v.Key(v.Account, version.KeyID)
	return key != nil && header.Generation != key.Generation()
}

// KeyUse says how many versions depend on one generation of a key's material.
type KeyUse struct {
	Account    string    `json:"account"`
	KeyID      string    `json:"key_id"`
	State      kms.State `json:"state"` // empty when the key is no more
	Generation uint32    `json:"generation"`
	Current    bool      `json:"current"`
	Versions   int       `json:"versions"`
}

// KeyUses counts what depends on which material, in the order of accounts, keys and generations. It reads every
// version.
func (s *Service) KeyUses(ctx context.Context) ([]KeyUse, error) {
	type material struct {
		account string
		kms.Header
	}
	counts := map[material]int{}
	var after []byte
	for {
		seen := 0
		err := s.Store.View(func(tx *fsm.Tx) error {
			after = tx.WalkValues(after, func(found *secret.Secret, version *secret.Version, value *secret.Value) bool {
				if header, err := kms.ParseHeader(value.WrappedKey); err == nil {
					counts[material{found.Account, header}]++
				}
				seen++
				return seen < rewrapBatch
			})
			return nil
		})
		if err != nil {
			return nil, err
		}
		if after == nil {
			break
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	var uses []KeyUse
	err := s.Store.View(func(tx *fsm.Tx) error {
		for m, n := range counts {
			use := KeyUse{Account: m.account, KeyID: m.KeyID, Generation: m.Generation, Versions: n}
			if key := tx.Key(m.account, m.KeyID); key != nil {
				use.State, use.Current = key.State(s.Millis()), key.Generation() == m.Generation
			}
			uses = append(uses, use)
		}
		return nil
	})
	slices.SortFunc(uses, func(a, b KeyUse) int {
		return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.KeyID, b.KeyID),
			cmp.Compare(a.Generation, b.Generation))
	})
	return uses, err
}
