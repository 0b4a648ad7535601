package kms

import (
	"context"
	"crypto/subtle"
	"slices"

	"coffer/refusal"
)

// rotatable refuses keys whose material can't be rotated. Imported material rotates on demand only.
func (c Change) rotatable(automatic bool) error {
	if err := c.unmanaged(); err != nil {
		return err
	}
	switch {
	case c.Key.Spec != Symmetric:
		return refusal.Errorf(KindUnsupported, "%s is not a symmetric encryption key: only those rotate.", c.ARN)
	case automatic && c.Key.External:
		return refusal.Errorf(KindUnsupported, "%s origin is EXTERNAL which is not valid for this operation.", c.ARN)
	}
	return c.Usable()
}

// EnableRotation rotates the key automatically every period days from now on.
func (c Change) EnableRotation(period int) error {
	if err := c.rotatable(true); err != nil {
		return err
	}
	c.Key.Period, c.Key.NextAt = period, c.At+int64(period)*millisPerDay
	return nil
}

// DisableRotation ends automatic rotation.
func (c Change) DisableRotation() error {
	if err := c.rotatable(true); err != nil {
		return err
	}
	c.Key.Period, c.Key.NextAt = 0, 0
	return nil
}

// Manage makes a new key one that the service manages: nobody changes it, and it rotates every year, as AWS managed
// keys do (AWS KMS developer guide, "Rotate AWS KMS keys").
func (k *Key) Manage(description string) {
	k.Managed, k.Description = true, description
	k.Period, k.NextAt = DefaultPeriod, k.Created+DefaultPeriod*millisPerDay
}

// RotationDue reports whether an automatic rotation is due at now: disabled keys and those that are pending
// deletion wait until they are enabled again.
func (k *Key) RotationDue(now int64) bool {
	return k.NextAt != 0 && k.NextAt <= now && k.State(now) == Enabled
}

// Rotate makes next, which was drawn as the generation after the last, the current material. Old material stays to
// decrypt.
func (c Change) Rotate(next Material, automatic bool) error {
	k := c.Key
	if automatic {
		if !k.RotationDue(c.At) {
			return nil // done before, or not wanted any more
		}
		if k.Period <= 0 {
			return refusal.ErrConflict // such a key is not rotated by itself
		}
		period := int64(k.Period) * millisPerDay
		k.NextAt += ((c.At-k.NextAt)/period + 1) * period
	} else if err := c.onDemand(); err != nil {
		return err
	}
	next.RotatedAt, next.Automatic = c.At, automatic
	k.Materials = append(slices.Clone(k.Materials), next)
	k.Current = len(k.Materials) - 1
	return nil
}

// CanRotateOnDemand refuses where a rotation on demand would be.
func (c Change) CanRotateOnDemand() error {
	if err := c.rotatable(false); err != nil {
		return err
	}
	if c.Key.OnDemand >= MaxOnDemand {
		return refusal.Errorf(KindLimitExceeded, "%s was rotated on demand %d times, which is the limit.", c.ARN, MaxOnDemand)
	}
	if c.Key.External && c.pending() < 0 {
		return refusal.Errorf(KindInvalidState,
			"%s has no imported key material that is pending rotation: import new key material first.", c.ARN)
	}
	return nil
}

func (c Change) onDemand() error {
	if err := c.CanRotateOnDemand(); err != nil {
		return err
	}
	c.Key.OnDemand++
	return nil
}

// RotateToPending makes imported material that waits for it the current one.
func (c Change) RotateToPending() error {
	if c.pending() < 0 {
		return refusal.ErrConflict
	}
	if err := c.onDemand(); err != nil {
		return err
	}
	k := c.Key
	k.Materials = slices.Clone(k.Materials)
	k.Current = c.pending()
	k.Materials[k.Current].Pending = false
	k.Materials[k.Current].RotatedAt = c.At
	return nil
}

func (c Change) pending() int {
	return slices.IndexFunc(c.Key.Materials, func(m Material) bool { return m.Pending })
}

// Importable refuses keys that take no imported material.
func (c Change) Importable() error {
	if err := c.unmanaged(); err != nil {
		return err
	}
	switch {
	case !c.Key.External:
		return refusal.Errorf(KindUnsupported, "%s origin is AWS_KMS which is not valid for this operation.", c.ARN)
	case c.Key.DeletionAt != 0:
		return c.pendingDeletion()
	}
	return nil
}

// Import is what ImportKeyMaterial asks for besides the material.
type Import struct {
	ValidTo     int64   `cbor:"1,keyasint,omitempty"` // 0: it does not expire
	New         *bool   `cbor:"2,keyasint,omitempty"` // NEW_KEY_MATERIAL or EXISTING_KEY_MATERIAL, where it was said
	MaterialID  string  `cbor:"3,keyasint,omitempty"` // which the material must have, where it was said
	Description *string `cbor:"4,keyasint,omitempty"`
}

// ImportGeneration is the generation that material with the id is, or will be, of this key.
func (k *Key) ImportGeneration(id string) int {
	if i := slices.IndexFunc(k.Materials, func(m Material) bool { return m.ID == id }); i >= 0 {
		return i
	}
	return len(k.Materials)
}

// Import takes imported material: the first, the same as before, or new one that waits for a rotation.
// The material was wrapped for ImportGeneration.
func (c Change) Import(m Material, in Import) error {
	if err := c.Importable(); err != nil {
		return err
	}
	k := c.Key
	at := k.ImportGeneration(m.ID)
	known, first := at < len(k.Materials), len(k.Materials) == 0
	isNew := first
	if in.New != nil {
		isNew = *in.New
	}
	wrong := func(why string) error {
		return refusal.Errorf(KindIncorrectMaterial, "The key material can't be imported into %s: %s.", c.ARN, why)
	}
	switch {
	case in.MaterialID != "" && in.MaterialID != m.ID:
		return wrong("it is not the one that KeyMaterialId names")
	case !isNew && !known:
		return wrong("it is not the same as was imported before")
	case isNew && known:
		return wrong("it was imported before; import it as EXISTING_KEY_MATERIAL")
	case isNew && !first && k.Spec != Symmetric:
		return wrong("a key of this type keeps its first key material")
	case isNew && c.pending() >= 0:
		return refusal.Errorf(KindInvalidState, "%s has key material that is pending rotation already.", c.ARN)
	}
	m.ValidTo = in.ValidTo
	k.Materials = slices.Clone(k.Materials)
	if known {
		old := &k.Materials[at]
		m.Pending, m.RotatedAt, m.Description = old.Pending, old.RotatedAt, old.Description
		*old = m
	} else {
		m.Pending = !first
		k.Materials = append(k.Materials, m)
	}
	if in.Description != nil {
		k.Materials[at].Description = *in.Description
	}
	return nil
}

// DeleteMaterial deletes imported material: the current one if id is empty. It answers its id.
func (c Change) DeleteMaterial(id string) (string, error) {
	k := c.Key
	if err := c.unmanaged(); err != nil {
		return "", err
	}
	if !k.External {
		return "", refusal.Errorf(KindUnsupported, "%s origin is AWS_KMS which is not valid for this operation.", c.ARN)
	}
	if len(k.Materials) == 0 {
		return "", nil // there is none yet: no effect
	}
	at := k.Current
	if id != "" {
		if at = slices.IndexFunc(k.Materials, func(m Material) bool {
			return subtle.ConstantTimeCompare([]byte(m.ID), []byte(id)) == 1
		}); at < 0 {
			return "", refusal.Errorf(KindNotFound, "%s has no key material %s.", c.ARN, id)
		}
	}
	k.Materials = slices.Clone(k.Materials)
	deleted := k.Materials[at].ID
	k.erase(at)
	return deleted, nil
}

// erase deletes one generation's material. What was never current leaves no trace.
func (k *Key) erase(at int) {
	if k.Materials[at].Pending {
		k.Materials = slices.Delete(k.Materials, at, at+1)
		return
	}
	k.Materials[at].Wrapped = nil
}

// Expired reports whether material of the key has to be deleted at now.
func (k *Key) Expired(now int64) bool {
	return slices.ContainsFunc(k.Materials, func(m Material) bool { return len(m.Wrapped) > 0 && !m.there(now) })
}

// Expire deletes the material that has expired.
func (c Change) Expire() {
	c.Key.Materials = slices.Clone(c.Key.Materials)
	for at := len(c.Key.Materials) - 1; at >= 0; at-- {
		if m := &c.Key.Materials[at]; len(m.Wrapped) > 0 && !m.there(c.At) {
			c.Key.erase(at)
		}
	}
}

// Rewrap wraps the key's material anew: it unwraps with from and wraps with to. into gets the new wrapped forms by
// the old ones; those that it holds already are not made again.
func (k *Key) Rewrap(ctx context.Context, from, to Wrapper, into map[string][]byte) error {
	for generation, m := range k.Materials {
		if len(m.Wrapped) == 0 || into[string(m.Wrapped)] != nil {
			continue
		}
		raw, err := k.UnwrapMaterial(ctx, from, uint32(generation))
		if err != nil {
			return err
		}
		anew, err := k.WrapMaterial(ctx, to, generation, raw)
		clear(raw)
		if err != nil {
			return err
		}
		into[string(m.Wrapped)] = anew.Wrapped
	}
	return nil
}
