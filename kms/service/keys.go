package service

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"coffer/fsm"
	"coffer/iam"
	"coffer/kms"
	"coffer/refusal"
	"coffer/serving"
)

// CreateKeyInput is the input of CreateKey.
type CreateKeyInput struct {
	Policy                         *string `json:"Policy"`
	Description                    *string `json:"Description"`
	KeyUsage                       *string `json:"KeyUsage"`
	CustomerMasterKeySpec          *string `json:"CustomerMasterKeySpec"`
	KeySpec                        *string `json:"KeySpec"`
	Origin                         *string `json:"Origin"`
	CustomKeyStoreID               *string `json:"CustomKeyStoreId"`
	BypassPolicyLockoutSafetyCheck *bool   `json:"BypassPolicyLockoutSafetyCheck"`
	Tags                           []Tag   `json:"Tags"`
	MultiRegion                    *bool   `json:"MultiRegion"`
	XksKeyID                       *string `json:"XksKeyId"`
}

// MetadataOutput describes a key.
type MetadataOutput struct {
	KeyMetadata Metadata `json:"KeyMetadata"`
}

// Metadata is what DescribeKey tells of a key.
type Metadata struct {
	AWSAccountID          string       `json:"AWSAccountId"`
	KeyID                 string       `json:"KeyId"`
	Arn                   string       `json:"Arn"`
	CreationDate          serving.Time `json:"CreationDate"`
	Enabled               bool         `json:"Enabled"`
	Description           string       `json:"Description"`
	KeyUsage              kms.Usage    `json:"KeyUsage"`
	KeyState              kms.State    `json:"KeyState"`
	DeletionDate          serving.Time `json:"DeletionDate,omitzero"`
	ValidTo               serving.Time `json:"ValidTo,omitzero"`
	Origin                string       `json:"Origin"`
	ExpirationModel       string       `json:"ExpirationModel,omitempty"`
	KeyManager            string       `json:"KeyManager"`
	CustomerMasterKeySpec kms.Spec     `json:"CustomerMasterKeySpec"`
	KeySpec               kms.Spec     `json:"KeySpec"`
	EncryptionAlgorithms  []string     `json:"EncryptionAlgorithms,omitempty"`
	MacAlgorithms         []string     `json:"MacAlgorithms,omitempty"`
	MultiRegion           bool         `json:"MultiRegion"`
	CurrentKeyMaterialID  string       `json:"CurrentKeyMaterialId,omitempty"`
}

const (
	originKMS      = "AWS_KMS"
	originExternal = "EXTERNAL"
	expires        = "KEY_MATERIAL_EXPIRES"
	expiresNot     = "KEY_MATERIAL_DOES_NOT_EXPIRE"
)

func metadata(v *serving.View, k *kms.Key) Metadata {
	state := k.State(v.Millis())
	m := Metadata{
		AWSAccountID: k.Account, KeyID: k.ID, Arn: k.ARN(v.Region), CreationDate: serving.Time(k.Created),
		Enabled: state == kms.Enabled, Description: k.Description, KeyUsage: k.Spec.Usage(), KeyState: state,
		DeletionDate: serving.Time(k.DeletionAt), Origin: originKMS, KeyManager: "CUSTOMER",
		CustomerMasterKeySpec: k.Spec, KeySpec: k.Spec,
	}
	if k.Managed {
		m.KeyManager = "AWS"
	}
	if k.Spec == kms.Symmetric {
		m.EncryptionAlgorithms = []string{string(kms.Symmetric)}
		if len(k.Materials) > 0 {
			m.CurrentKeyMaterialID = k.Materials[k.Current].ID
		}
	} else {
		m.MacAlgorithms = []string{k.Spec.MacAlgorithm()}
	}
	if k.External {
		m.Origin = originExternal
		if state != kms.PendingImport && len(k.Materials) > 0 {
			m.ExpirationModel = expiresNot
		}
		for _, material := range k.Materials {
			if material.ValidTo != 0 && !material.Pending && (m.ValidTo == 0 || serving.Time(material.ValidTo) < m.ValidTo) {
				m.ValidTo, m.ExpirationModel = serving.Time(material.ValidTo), expires
			}
		}
	}
	return m
}

// CreateKey makes a key: with material of its own, or without for material to be imported.
func (s *Service) CreateKey(ctx context.Context, in *CreateKeyInput) (*MetadataOutput, error) {
	var c checks
	c.policy(in.Policy)
	c.Length("Description", in.Description, 0, 8192)
	c.tags(in.Tags)
	if err := c.Err(); err != nil {
		return nil, err
	}
	key, err := newKey(in)
	if err != nil {
		return nil, err
	}
	if key.Tags, err = toTags(in.Tags); err != nil {
		return nil, err
	}
	if err := checkPolicy(in.Policy); err != nil {
		return nil, err
	}
	key.Policy = deref(in.Policy)
	id, err := uuid.NewRandomFromReader(s.Random)
	if err != nil {
		return nil, err
	}
	var out *MetadataOutput
	var m made
	_, err = s.Write(ctx, func(v *serving.View) (fsm.Command, error) {
		key.ID, key.Account, key.Created, key.Materials = id.String(), v.Account, s.Millis(), nil
		if !key.External {
			if !m.fits(v, 0) {
				return nil, m.draw(v, key)
			}
			key.Materials = []kms.Material{m.Material}
		}
		out = &MetadataOutput{metadata(v, key)}
		return &fsm.CreateKey{Key: *key, Root: v.State.RootKeyID}, nil
	})
	return out, err
}

func newKey(in *CreateKeyInput) (*kms.Key, error) {
	spec := kms.Symmetric
	switch {
	case in.KeySpec != nil && in.CustomerMasterKeySpec != nil && *in.KeySpec != *in.CustomerMasterKeySpec:
		return nil, refusal.Errorf(refusal.KindValidation,
			"You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated.")
	case in.KeySpec != nil:
		spec = kms.Spec(*in.KeySpec)
	case in.CustomerMasterKeySpec != nil:
		spec = kms.Spec(*in.CustomerMasterKeySpec)
	}
	unsupported := func(format string, args ...any) (*kms.Key, error) {
		return nil, refusal.Errorf(kms.KindUnsupported, format, args...)
	}
	usage, origin := deref(in.KeyUsage), deref(in.Origin)
	switch {
	case !slices.Contains(kms.Specs, spec):
		return unsupported("KeySpec %s is not supported here. Supported: %s.",
			spec, strings.Trim(fmt.Sprint(kms.Specs), "[]"))
	case usage == "" && spec != kms.Symmetric:
		return nil, refusal.Errorf(refusal.KindValidation,
			"You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.")
	case usage != "" && usage != string(spec.Usage()):
		return nil, refusal.Errorf(refusal.KindValidation, "KeyUsage %s is not compatible with KeySpec %s", usage, spec)
	case origin != "" && origin != originKMS && origin != originExternal:
		return unsupported("Origin %s is not supported here. Supported: %s %s.", origin, originKMS, originExternal)
	case in.CustomKeyStoreID != nil:
		return unsupported("Custom key stores are not supported here.")
	case in.XksKeyID != nil:
		return unsupported("External key stores are not supported here.")
	case deref(in.MultiRegion):
		return unsupported("Multi-Region keys are not supported here: keys never leave their region.")
	}
	return &kms.Key{Spec: spec, External: origin == originExternal, Description: deref(in.Description)}, nil
}

// defaultPolicy is the policy of a key that was given none: it opens the key to the account.
func defaultPolicy(account string) string {
	return `{"Version":"2012-10-17","Id":"key-default-1","Statement":[{"Sid":"Enable IAM User Permissions",` +
		`"Effect":"Allow","Principal":{"AWS":"` +
		iam.Root(account).ARN + `"},"Action":"kms:*","Resource":"*"}]}`
}

// maxPolicy is the longest key policy, in bytes (AWS KMS developer guide, "Resource quotas").
const maxPolicy = 32 << 10

func checkPolicy(policy *string) error {
	if policy == nil {
		return nil
	}
	if len(*policy) > maxPolicy {
		return refusal.Errorf(kms.KindLimitExceeded, "The key policy has %d bytes; it can have at most %d.",
			len(*policy), maxPolicy)
	}
	if _, err := iam.ParseResourcePolicy(*policy); err != nil {
		return refusal.Errorf(kms.KindMalformedPolicy, "The key policy is not valid: %v.", err)
	}
	return nil
}

// DescribeKeyInput is the input of DescribeKey.
type DescribeKeyInput struct {
	KeyID       *string  `json:"KeyId"`
	GrantTokens []string `json:"GrantTokens"`
}

// DescribeKey tells everything of a key but its policy and tags.
func (s *Service) DescribeKey(ctx context.Context, in *DescribeKeyInput) (*MetadataOutput, error) {
	var c checks
	c.keyID(in.KeyID)
	if err := c.Err(); err != nil {
		return nil, err
	}
	var out *MetadataOutput
	err := s.Read(ctx, func(v *serving.View) error {
		key, err := find(v, *in.KeyID, true)
		if err != nil {
			return err
		}
		out = &MetadataOutput{metadata(v, key)}
		return nil
	})
	return out, err
}

// UpdateKeyDescriptionInput is the input of UpdateKeyDescription.
type UpdateKeyDescriptionInput struct {
	KeyID       *string `json:"KeyId"`
	Description *string `json:"Description"`
}

// UpdateKeyDescription replaces a key's description.
func (s *Service) UpdateKeyDescription(ctx context.Context, in *UpdateKeyDescriptionInput) (*Empty, error) {
	var c checks
	c.keyID(in.KeyID)
	c.Required("Description", in.Description != nil)
	c.Length("Description", in.Description, 0, 8192)
	if err := c.Err(); err != nil {
		return nil, err
	}
	_, err := s.change(ctx, *in.KeyID, func(_ *serving.View, _ *kms.Key, ref fsm.KeyRef) (fsm.Command, error) {
		return &fsm.SetKeyDescription{Ref: ref, At: s.Millis(), Description: *in.Description}, nil
	})
	return &Empty{}, err
}

// EnableKey enables a key.
func (s *Service) EnableKey(ctx context.Context, in *KeyInput) (*Empty, error) {
	return s.setEnabled(ctx, in, true)
}

// DisableKey disables a key: from its answer on no node uses it.
func (s *Service) DisableKey(ctx context.Context, in *KeyInput) (*Empty, error) {
	return s.setEnabled(ctx, in, false)
}

func (s *Service) setEnabled(ctx context.Context, in *KeyInput, enabled bool) (*Empty, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	_, err := s.change(ctx, *in.KeyID, func(_ *serving.View, _ *kms.Key, ref fsm.KeyRef) (fsm.Command, error) {
		return &fsm.EnableKey{Ref: ref, At: s.Millis(), Enabled: enabled}, nil
	})
	return &Empty{}, err
}

// ScheduleKeyDeletionInput is the input of ScheduleKeyDeletion.
type ScheduleKeyDeletionInput struct {
	KeyID               *string `json:"KeyId"`
	PendingWindowInDays *int64  `json:"PendingWindowInDays"`
}

// ScheduleKeyDeletionOutput is the answer of ScheduleKeyDeletion.
type ScheduleKeyDeletionOutput struct {
	KeyID               string       `json:"KeyId"`
	DeletionDate        serving.Time `json:"DeletionDate"`
	KeyState            kms.State    `json:"KeyState"`
	PendingWindowInDays int64        `json:"PendingWindowInDays"`
}

const (
	minWindow     = 7
	defaultWindow = 30
)

// ScheduleKeyDeletion begins a waiting period of 7 to 30 days, after which the key's material is erased for good.
func (s *Service) ScheduleKeyDeletion(ctx context.Context,
	in *ScheduleKeyDeletionInput) (*ScheduleKeyDeletionOutput, error) {
	var c checks
	c.keyID(in.KeyID)
	c.Between("PendingWindowInDays", in.PendingWindowInDays, minWindow, defaultWindow)
	if err := c.Err(); err != nil {
		return nil, err
	}
	window := int64(defaultWindow)
	if in.PendingWindowInDays != nil {
		window = *in.PendingWindowInDays
	}
	now := s.Millis()
	due := now + window*millisPerDay
	key, err := s.change(ctx, *in.KeyID, func(_ *serving.View, _ *kms.Key, ref fsm.KeyRef) (fsm.Command, error) {
		return &fsm.ScheduleKeyDeletion{Ref: ref, At: now, Due: due}, nil
	})
	if err != nil {
		return nil, err
	}
	return &ScheduleKeyDeletionOutput{key.ARN(s.Region), serving.Time(due), kms.PendingDeletion, window}, nil
}

// CancelKeyDeletion ends the waiting period. The key is disabled then.
func (s *Service) CancelKeyDeletion(ctx context.Context, in *KeyInput) (*KeyOutput, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	key, err := s.change(ctx, *in.KeyID, func(_ *serving.View, _ *kms.Key, ref fsm.KeyRef) (fsm.Command, error) {
		return &fsm.CancelKeyDeletion{Ref: ref, At: s.Millis()}, nil
	})
	if err != nil {
		return nil, err
	}
	return &KeyOutput{key.ARN(s.Region)}, nil
}
