package secretsmanager

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"coffer/fsm"
	"coffer/kms"
	"coffer/kms/rootkey"
	"coffer/secret"
)

// keyring seals and opens values. It holds a bounded number of unwrapped keys in memory.
type keyring struct {
	root      rootkey.Provider
	unwrapped *lru.Cache[kms.Header, []byte] // material of KMS keys
	dataKeys  *kms.Cache
}

const cachedMaterial = 1024

func newKeyring(root rootkey.Provider) *keyring {
	unwrapped, err := lru.New[kms.Header, []byte](cachedMaterial)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	return &keyring{root: root, unwrapped: unwrapped, dataKeys: kms.NewCache()}
}

func (k *keyring) material(ctx context.Context, tx *fsm.Tx, account string, h kms.Header) ([]byte, error) {
	if m, ok := k.unwrapped.Get(h); ok {
		return m, nil
	}
	key := tx.Key(account, h.KeyID)
	if key == nil {
		return nil, fmt.Errorf("KMS key %s does not exist", h.KeyID)
	}
	m, err := key.Material(ctx, k.root, h.Generation)
	if err != nil {
		return nil, err
	}
	k.unwrapped.Add(h, m)
	return m, nil
}

// plaintext is a value in the clear: text or bytes.
type plaintext struct {
	content []byte
	binary  bool
}

func (p plaintext) equal(other plaintext) bool {
	return p.binary == other.binary && subtle.ConstantTimeCompare(p.content, other.content) == 1
}

// seal encrypts a value under a data key of its own, wrapped under the default key.
func (v *view) seal(arn, versionID string, value plaintext) (*fsm.NewVersion, error) {
	k := v.s.keys
	key := v.Key(v.cluster.Account, v.cluster.DefaultKeyID)
	if key == nil {
		return nil, encryptionFailure()
	}
	header := kms.Header{KeyID: key.ID, Generation: key.Generation()}
	material, err := k.material(v.ctx, v.Tx, key.Account, header)
	if err != nil {
		return nil, encryptionFailure()
	}
	id, err := uuid.Parse(key.ID)
	if err != nil {
		return nil, encryptionFailure()
	}
	dataKey, raw, err := kms.NewDataKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	bound := kms.SecretContext(arn, versionID)
	sealed, err := dataKey.Seal(bound, value.content)
	if err != nil {
		return nil, err
	}
	wrapped, err := kms.Seal(material, id, header.Generation, bound, raw, rand.Reader)
	if err != nil {
		return nil, err
	}
	k.dataKeys.Add(wrapped, dataKey)
	return &fsm.NewVersion{ID: versionID, KeyID: key.ID, WrappedKey: wrapped, Sealed: sealed, Binary: value.binary}, nil
}

// open decrypts the value of a version.
func (v *view) open(arn, versionID string, value *secret.Value) (plaintext, error) {
	bound := kms.SecretContext(arn, versionID)
	key, err := v.s.keys.dataKeys.Unwrap(value.WrappedKey, func() ([]byte, error) {
		header, err := kms.ParseHeader(value.WrappedKey)
		if err != nil {
			return nil, err
		}
		material, err := v.s.keys.material(v.ctx, v.Tx, v.account, header)
		if err != nil {
			return nil, err
		}
		return kms.Open(material, bound, value.WrappedKey)
	})
	if err != nil {
		return plaintext{}, decryptionFailure()
	}
	content, err := key.Open(bound, value.Sealed)
	if err != nil {
		return plaintext{}, decryptionFailure()
	}
	return plaintext{content, value.Binary}, nil
}

func encryptionFailure() error {
	return secret.Errorf(secret.KindEncryption, "Secrets Manager can't encrypt the protected secret text using the provided KMS key. Check that the KMS key is available, enabled, and not in an invalid state.")
}

func decryptionFailure() error {
	return secret.Errorf(secret.KindDecryption, "Secrets Manager can't decrypt the protected secret text using the provided KMS key.")
}
