package service

import (
	"context"
	"time"

	"coffer/fsm"
	"coffer/iam"
	"coffer/kms"
	"coffer/refusal"
	"coffer/serving"
)

// EnableKeyRotationInput is the input of EnableKeyRotation.
type EnableKeyRotationInput struct {
	KeyID                *string `json:"KeyId"`
	RotationPeriodInDays *int64  `json:"RotationPeriodInDays"`
}

// EnableKeyRotation rotates a key's material every 90 to 2560 days, by default 365.
func (s *Service) EnableKeyRotation(ctx context.Context, in *EnableKeyRotationInput) (*Empty, error) {
	var c checks
	c.keyID(in.KeyID)
	c.Between("RotationPeriodInDays", in.RotationPeriodInDays, kms.MinPeriod, kms.MaxPeriod)
	if err := c.Err(); err != nil {
		return nil, err
	}
	period := kms.DefaultPeriod
	if in.RotationPeriodInDays != nil {
		period = int(*in.RotationPeriodInDays)
	}
	return s.setRotation(ctx, *in.KeyID, period)
}

// DisableKeyRotation ends automatic rotation.
func (s *Service) DisableKeyRotation(ctx context.Context, in *KeyInput) (*Empty, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	return s.setRotation(ctx, *in.KeyID, 0)
}

func (s *Service) setRotation(ctx context.Context, id string, period int) (*Empty, error) {
	_, err := s.change(ctx, id, func(_ *serving.View, _ *kms.Key, ref fsm.KeyRef) (fsm.Command, error) {
		return &fsm.SetKeyRotation{Ref: ref, At: s.Millis(), Period: period}, nil
	})
	return &Empty{}, err
}

// GetKeyRotationStatusOutput is the answer of GetKeyRotationStatus.
type GetKeyRotationStatusOutput struct {
	KeyRotationEnabled   bool         `json:"KeyRotationEnabled"`
	KeyID                string       `json:"KeyId"`
	RotationPeriodInDays int          `json:"RotationPeriodInDays,omitzero"`
	NextRotationDate     serving.Time `json:"NextRotationDate,omitzero"`
}

// GetKeyRotationStatus tells whether and when a key rotates. While a key is pending deletion it does not.
func (s *Service) GetKeyRotationStatus(ctx context.Context, in *KeyInput) (*GetKeyRotationStatusOutput, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	var out *GetKeyRotationStatusOutput
	err := s.Read(ctx, func(v *serving.View) error {
		key, err := find(v, *in.KeyID, false)
		if err != nil {
			return err
		}
		out = &GetKeyRotationStatusOutput{KeyID: key.ARN(v.Region)}
		if key.Period > 0 && key.DeletionAt == 0 {
			out.KeyRotationEnabled, out.RotationPeriodInDays, out.NextRotationDate = true, key.Period, serving.Time(key.NextAt)
		}
		return nil
	})
	return out, err
}

// RotateKeyOnDemand makes new material the current one at once: drawn, or imported and waiting.
func (s *Service) RotateKeyOnDemand(ctx context.Context, in *KeyInput) (*KeyOutput, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	var m made
	key, err := s.change(ctx, *in.KeyID, func(v *serving.View, key *kms.Key, ref fsm.KeyRef) (fsm.Command, error) {
		if err := v.Use(key).CanRotateOnDemand(); err != nil {
			return nil, err
		}
		if key.External {
			return &fsm.RotateToImported{Ref: ref, At: s.Millis()}, nil
		}
		return m.rotation(v, key, false)
	})
	if err != nil {
		return nil, err
	}
	return &KeyOutput{key.ARN(s.Region)}, nil
}

// rotation is the command that makes newly drawn material a key's current one.
func (m *made) rotation(v *serving.View, key *kms.Key, automatic bool) (fsm.Command, error) {
	if !m.fits(v, len(key.Materials)) {
		return nil, m.draw(v, key)
	}
	return &fsm.RotateKey{
		Ref: refTo(key), At: v.Millis(), Material: m.Material, Generation: m.generation, Automatic: automatic, Root: m.root,
	}, nil
}

// ListKeyRotationsInput is the input of ListKeyRotations.
type ListKeyRotationsInput struct {
	KeyID              *string `json:"KeyId"`
	IncludeKeyMaterial *string `json:"IncludeKeyMaterial"`
	Limit              *int64  `json:"Limit"`
	Marker             *string `json:"Marker"`
}

// ListKeyRotationsOutput is the answer of ListKeyRotations.
type ListKeyRotationsOutput struct {
	Rotations  []RotationEntry `json:"Rotations"`
	NextMarker string          `json:"NextMarker,omitempty"`
	Truncated  bool            `json:"Truncated"`
}

// RotationEntry is one generation of a key's material.
type RotationEntry struct {
	KeyID                  string       `json:"KeyId"`
	KeyMaterialID          string       `json:"KeyMaterialId"`
	KeyMaterialDescription string       `json:"KeyMaterialDescription,omitempty"`
	ImportState            string       `json:"ImportState,omitempty"`
	KeyMaterialState       string       `json:"KeyMaterialState"`
	ExpirationModel        string       `json:"ExpirationModel,omitempty"`
	ValidTo                serving.Time `json:"ValidTo,omitzero"`
	RotationDate           serving.Time `json:"RotationDate,omitzero"`
	RotationType           string       `json:"RotationType,omitempty"`
}

// ListKeyRotations lists a key's rotations, or all generations of its material.
func (s *Service) ListKeyRotations(ctx context.Context, in *ListKeyRotationsInput) (*ListKeyRotationsOutput, error) {
	var c checks
	c.keyID(in.KeyID)
	c.OneOf("IncludeKeyMaterial", in.IncludeKeyMaterial, "ALL_KEY_MATERIAL", "ROTATIONS_ONLY")
	c.page(in.Limit, in.Marker)
	if err := c.Err(); err != nil {
		return nil, err
	}
	var out *ListKeyRotationsOutput
	err := s.Read(ctx, func(v *serving.View) error {
		key, err := find(v, *in.KeyID, false)
		if err != nil {
			return err
		}
		if key.Spec != kms.Symmetric {
			return refusal.Errorf(kms.KindUnsupported, "%s is not a symmetric encryption key: only those rotate.",
				key.ARN(v.Region))
		}
		all := deref(in.IncludeKeyMaterial) == "ALL_KEY_MATERIAL"
		var entries []RotationEntry
		for generation, m := range key.Materials {
			if all || m.RotatedAt != 0 {
				entries = append(entries, rotationEntry(v, key, generation, m))
			}
		}
		rotations := newPage[RotationEntry](in.Limit, 100)
		next, err := walkIndexed(v, in.Marker, rotations, entries, func(e RotationEntry) RotationEntry { return e },
			"ListKeyRotations", key.ID, deref(in.IncludeKeyMaterial))
		out = &ListKeyRotationsOutput{rotations.items, next, rotations.more}
		return err
	})
	return out, err
}

func rotationEntry(v *serving.View, key *kms.Key, generation int, m kms.Material) RotationEntry {
	e := RotationEntry{
		KeyID: key.ID, KeyMaterialID: m.ID, KeyMaterialDescription: m.Description, KeyMaterialState: "NON_CURRENT",
		RotationDate: serving.Time(m.RotatedAt),
	}
	switch {
	case m.Pending:
		e.KeyMaterialState = "PENDING_ROTATION"
	case generation == key.Current:
		e.KeyMaterialState = "CURRENT"
	}
	switch {
	case m.RotatedAt == 0:
	case m.Automatic:
		e.RotationType = "AUTOMATIC"
	default:
		e.RotationType = "ON_DEMAND"
	}
	if key.External {
		e.ImportState, e.ExpirationModel = "IMPORTED", expiresNot
		if len(m.Wrapped) == 0 || m.ValidTo != 0 && m.ValidTo <= v.Millis() {
			e.ImportState = "PENDING_IMPORT"
		}
		if m.ValidTo != 0 {
			e.ExpirationModel, e.ValidTo = expires, serving.Time(m.ValidTo)
		}
	}
	return e
}

// maxEnded bounds how many keys one command ends.
const maxEnded = 100

// Advance does what is due at a time: it rotates keys on schedule, deletes keys at the end of their waiting period, and
// imported material that has expired. The leader runs it, with a time that it may rely on. It returns how many keys it
// changed.
func (s *Service) Advance(ctx context.Context, at time.Time) (changed int, err error) {
	now := at.UnixMilli()
	var ended []fsm.KeyRef
	var due []*kms.Key
	err = s.Store.View(func(tx *fsm.Tx) error {
		tx.Keys("", "", func(k *kms.Key) bool {
			switch {
			case k.DeletionAt != 0 && k.DeletionAt <= now, k.Expired(now):
				ended = append(ended, refTo(k))
			case k.RotationDue(now):
				due = append(due, k)
			}
			return len(ended) < maxEnded
		})
		return nil
	})
	if err != nil {
		return 0, err
	}
	if len(ended) > 0 {
		if _, err := s.Propose(ctx, &fsm.EndKeys{At: now, Keys: ended}); err != nil {
			return 0, err
		}
	}
	for i, key := range due {
		if err := s.rotateDue(ctx, key); err != nil {
			return len(ended) + i, err
		}
	}
	return len(ended) + len(due), nil
}

// rotateDue proposes one automatic rotation; one that changed meanwhile is looked at again the next time.
func (s *Service) rotateDue(ctx context.Context, key *kms.Key) error {
	ctx = serving.WithCall(ctx, &serving.Call{Principal: iam.Root(key.Account), Consistency: serving.Local})
	var command fsm.Command
	var m made
	err := s.Read(ctx, func(v *serving.View) (err error) {
		command, err = m.rotation(v, key, true)
		return err
	})
	if err != nil {
		return err
	}
	_, err = s.Propose(ctx, command)
	return err
}
