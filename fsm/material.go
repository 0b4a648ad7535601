package fsm

import (
	"coffer/kms"

	"coffer/refusal"
)

// RotateKey makes Material, drawn for Generation, a key's current one.
type RotateKey struct {
	Ref        KeyRef       `cbor:"1,keyasint"`
	At         int64        `cbor:"2,keyasint"`
	Material   kms.Material `cbor:"3,keyasint"`
	Generation int          `cbor:"4,keyasint"`
	Automatic  bool         `cbor:"5,keyasint,omitempty"`
	Root       string       `cbor:"6,keyasint"`
}

// RotateToImported makes the imported material that waits for a rotation the current one.
type RotateToImported struct {
	Ref KeyRef `cbor:"1,keyasint"`
	At  int64  `cbor:"2,keyasint"`
}

// ImportMaterial takes imported material, wrapped for Generation.
type ImportMaterial struct {
	Ref        KeyRef       `cbor:"1,keyasint"`
	At         int64        `cbor:"2,keyasint"`
	Material   kms.Material `cbor:"3,keyasint"`
	Generation int          `cbor:"4,keyasint"`
	Import     kms.Import   `cbor:"5,keyasint"`
	Root       string       `cbor:"6,keyasint"`
}

// DeleteMaterial deletes imported material.
type DeleteMaterial struct {
	Ref        KeyRef `cbor:"1,keyasint"`
	At         int64  `cbor:"2,keyasint"`
	MaterialID string `cbor:"3,keyasint"`
}

// EndKeys deletes keys whose waiting period ended before At, and imported material that expired before.
type EndKeys struct {
	At   int64    `cbor:"1,keyasint"`
	Keys []KeyRef `cbor:"2,keyasint"` // those to look at
}

func (c *RotateKey) apply(w *writeTx) (Outcome, error) {
	if err := w.under(c.Root); err != nil {
		return Outcome{}, err
	}
	return w.changeKey(c.Ref, c.At, func(k kms.Change) error {
		if len(k.Key.Materials) != c.Generation {
			return refusal.ErrConflict
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
			return refusal.ErrConflict
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
