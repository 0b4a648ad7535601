package kms

import (
	"context"
	"fmt"
	"io"

	"github.com/google/uuid"
)

// DefaultAlias names the key that encrypts secrets for which no other was chosen.
const DefaultAlias = "alias/aws/secretsmanager"

// Key is a KMS key as it is stored: its material only wrapped under the root key.
type Key struct {
	ID      string   `cbor:"1,keyasint"`
	Account string   `cbor:"2,keyasint"`
	Alias   string   `cbor:"3,keyasint,omitempty"`
	Created int64    `cbor:"4,keyasint"` // ms since 1970
	Wrapped [][]byte `cbor:"5,keyasint"` // material by generation, oldest first
}

// Wrapper wraps key material under a root key. Both calls authenticate additional data.
type Wrapper interface {
	Wrap(ctx context.Context, plaintext, additional []byte) ([]byte, error)
	Unwrap(ctx context.Context, wrapped, additional []byte) ([]byte, error)
}

// NewKey makes a key with material of its own, wrapped by root.
func NewKey(ctx context.Context, root Wrapper, account, alias string, created int64, random io.Reader) (Key, error) {
	id, err := uuid.NewRandomFromReader(random)
	if err != nil {
		return Key{}, err
	}
	material := make([]byte, keyLen)
	if _, err := io.ReadFull(random, material); err != nil {
		return Key{}, err
	}
	defer clear(material)
	k := Key{ID: id.String(), Account: account, Alias: alias, Created: created}
	wrapped, err := root.Wrap(ctx, material, k.binding(0))
	if err != nil {
		return Key{}, fmt.Errorf("wrap the material of key %s under the root key: %w", k.ID, err)
	}
	k.Wrapped = [][]byte{wrapped}
	return k, nil
}

// Generation is the generation of the newest material.
func (k *Key) Generation() uint32 { return uint32(len(k.Wrapped) - 1) }

// Material unwraps one generation of the key's material.
func (k *Key) Material(ctx context.Context, root Wrapper, generation uint32) ([]byte, error) {
	if int(generation) >= len(k.Wrapped) {
		return nil, ErrInvalidCiphertext
	}
	material, err := root.Unwrap(ctx, k.Wrapped[generation], k.binding(generation))
	if err != nil {
		return nil, fmt.Errorf("unwrap the material of key %s: %w", k.ID, err)
	}
	return material, nil
}

func (k *Key) binding(generation uint32) []byte {
	return fmt.Appendf(nil, "coffer key material v1:%s:%s:%d", k.Account, k.ID, generation)
}
