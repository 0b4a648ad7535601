package kms

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"

	"github.com/google/uuid"
)

// DefaultAlias names the key that encrypts secrets for which no other was chosen.
const DefaultAlias = "alias/aws/secretsmanager"

// Spec is a key's type, as the KMS API spells it.
type Spec string

// The specs that exist here.
const (
	Symmetric Spec = "SYMMETRIC_DEFAULT"
	HMAC224   Spec = "HMAC_224"
	HMAC256   Spec = "HMAC_256"
	HMAC384   Spec = "HMAC_384"
	HMAC512   Spec = "HMAC_512"
)

// Specs are the specs that exist here.
var Specs = []Spec{Symmetric, HMAC224, HMAC256, HMAC384, HMAC512}

// MaterialLen is the length of the spec's key material in bytes; 0 for a spec that does not exist here.
func (s Spec) MaterialLen() int {
	return map[Spec]int{Symmetric: keyLen, HMAC224: 28, HMAC256: 32, HMAC384: 48, HMAC512: 64}[s]
}

// Usage is what a key is for.
type Usage string

// The usages.
const (
	EncryptDecrypt    Usage = "ENCRYPT_DECRYPT"
	GenerateVerifyMac Usage = "GENERATE_VERIFY_MAC"
)

// Usage is what keys of the spec are for.
func (s Spec) Usage() Usage {
	if s == Symmetric {
		return EncryptDecrypt
	}
	return GenerateVerifyMac
}

// State is a key's state (AWS KMS developer guide, "Key states of AWS KMS keys").
type State string

// The states.
const (
	Enabled         State = "Enabled"
	Disabled        State = "Disabled"
	PendingImport   State = "PendingImport"
	PendingDeletion State = "PendingDeletion"
)

// Key is a KMS key as it is stored: its material only wrapped under the root key. Times are milliseconds
// since 1970; zero means "never". The field numbers are the stored form and never change their meaning.
type Key struct {
	ID          string     `cbor:"1,keyasint"` // UUID
	Account     string     `cbor:"2,keyasint"`
	Managed     bool       `cbor:"3,keyasint,omitempty"` // by Coffer, as AWS managed keys are by AWS
	Created     int64      `cbor:"4,keyasint"`
	Materials   []Material `cbor:"5,keyasint,omitempty"` // by generation, oldest first
	Current     int        `cbor:"6,keyasint,omitempty"` // the generation that encrypts
	Spec        Spec       `cbor:"7,keyasint"`
	External    bool       `cbor:"8,keyasint,omitempty"` // its material is imported
	Description string     `cbor:"9,keyasint,omitempty"`
	Policy      string     `cbor:"10,keyasint,omitempty"`
	Tags        []Tag      `cbor:"11,keyasint,omitempty"`
	Off         bool       `cbor:"12,keyasint,omitempty"` // disabled
	DeletionAt  int64      `cbor:"13,keyasint,omitempty"` // end of the waiting period
	Period      int        `cbor:"14,keyasint,omitempty"` // days between automatic rotations; 0 without
	NextAt      int64      `cbor:"15,keyasint,omitempty"` // the next automatic rotation
	OnDemand    int        `cbor:"16,keyasint,omitempty"` // rotations on demand so far
}

// Material is one generation of a key's material.
type Material struct {
	ID        string `cbor:"1,keyasint"`           // MaterialID
	Wrapped   []byte `cbor:"2,keyasint,omitempty"` // under the root key; nothing when it was deleted or has expired
	RotatedAt int64  `cbor:"3,keyasint,omitempty"` // when it became current; 0 for the first
	Automatic bool   `cbor:"4,keyasint,omitempty"` // it became current on schedule

	// Of imported material only.
	Pending     bool   `cbor:"5,keyasint,omitempty"` // imported for a rotation that has not been asked for
	ValidTo     int64  `cbor:"6,keyasint,omitempty"`
	Description string `cbor:"7,keyasint,omitempty"`
}

// Tag is a key with a value.
type Tag struct {
	Key   string `cbor:"1,keyasint"`
	Value string `cbor:"2,keyasint"`
}

// ARN is the key's ARN in region.
func (k *Key) ARN(region string) string { return KeyARN(region, k.Account, k.ID) }

// KeyARN is the ARN of the key with an id.
func KeyARN(region, account, id string) string {
	return "arn:aws:kms:" + region + ":" + account + ":key/" + id
}

// State is the key's state at now. Material that has expired counts as deleted, though it may not be yet.
func (k *Key) State(now int64) State {
	switch {
	case k.DeletionAt != 0:
		return PendingDeletion
	case k.missesMaterial(now):
		return PendingImport
	case k.Off:
		return Disabled
	}
	return Enabled
}

// missesMaterial reports whether material that the key needs is not there. Any generation that may have
// encrypted something is needed.
func (k *Key) missesMaterial(now int64) bool {
	return len(k.Materials) == 0 || slices.ContainsFunc(k.Materials, func(m Material) bool {
		return !m.Pending && !m.there(now)
	})
}

func (m *Material) there(now int64) bool {
	return len(m.Wrapped) > 0 && (m.ValidTo == 0 || now < m.ValidTo)
}

// Wrapper wraps key material under a root key. Both calls authenticate additional data.
type Wrapper interface {
	Wrap(ctx context.Context, plaintext, additional []byte) ([]byte, error)
	Unwrap(ctx context.Context, wrapped, additional []byte) ([]byte, error)
}

// NewKey makes a key of spec with material of its own, wrapped by root.
func NewKey(ctx context.Context, root Wrapper, account string, spec Spec, created int64,
	random io.Reader) (Key, error) {
	id, err := uuid.NewRandomFromReader(random)
	if err != nil {
		return Key{}, err
	}
	k := Key{ID: id.String(), Account: account, Spec: spec, Created: created}
	material, err := k.NewMaterial(ctx, root, random)
	k.Materials = []Material{material}
	return k, err
}

// NewMaterial draws the key's next generation of material, wrapped by root.
func (k *Key) NewMaterial(ctx context.Context, root Wrapper, random io.Reader) (Material, error) {
	raw := make([]byte, k.Spec.MaterialLen())
	if _, err := io.ReadFull(random, raw); err != nil {
		return Material{}, err
	}
	defer clear(raw)
	return k.WrapMaterial(ctx, root, len(k.Materials), raw)
}

// WrapMaterial wraps raw as the key's material of a generation.
func (k *Key) WrapMaterial(ctx context.Context, root Wrapper, generation int, raw []byte) (Material, error) {
	wrapped, err := root.Wrap(ctx, raw, k.Binding(generation))
	if err != nil {
		return Material{}, fmt.Errorf("wrap the material of key %s under the root key: %w", k.ID, err)
	}
	return Material{ID: k.MaterialID(raw), Wrapped: wrapped}, nil
}

// MaterialID names material of this key, 64 hexadecimal digits, and tells nothing of it.
func (k *Key) MaterialID(raw []byte) string {
	mac := hmac.New(sha256.New, raw)
	mac.Write([]byte("coffer key material id v1:" + k.ID))
	return hex.EncodeToString(mac.Sum(nil))
}

// Generation is the generation that encrypts.
func (k *Key) Generation() uint32 { return uint32(k.Current) }

// UnwrapMaterial unwraps one generation of the key's material.
func (k *Key) UnwrapMaterial(ctx context.Context, root Wrapper, generation uint32) ([]byte, error) {
	if int(generation) >= len(k.Materials) || len(k.Materials[generation].Wrapped) == 0 {
		return nil, ErrInvalidCiphertext
	}
	raw, err := root.Unwrap(ctx, k.Materials[generation].Wrapped, k.Binding(int(generation)))
	if err != nil {
		return nil, fmt.Errorf("unwrap the material of key %s: %w", k.ID, err)
	}
	return raw, nil
}

// Binding is the additional data that one generation's material is wrapped with.
func (k *Key) Binding(generation int) []byte {
	return fmt.Appendf(nil, "coffer key material v1:%s:%s:%d", k.Account, k.ID, generation)
}
