package secretsmanager

import (
	"crypto/rand"
	"crypto/subtle"

	"coffer/fsm"
	"coffer/kms"
	"coffer/refusal"
	"coffer/secret"
)

// plaintext is a value in the clear: text or bytes.
type plaintext struct {
	content []byte
	binary  bool
}

func (p plaintext) equal(other plaintext) bool {
	return p.binary == other.binary && subtle.ConstantTimeCompare(p.content, other.content) == 1
}

// usableKey is the key with the id, the default key if id is empty; it fails where it can't encrypt.
func (v *view) usableKey(id string) (*kms.Key, error) {
	if id == "" {
		id = v.State.DefaultKeyID
	}
	key := v.Key(v.Account, id)
	if key == nil || v.Use(key).Usable() != nil {
		return nil, encryptionFailure()
	}
	return key, nil
}

// namedKey is the id of the key that a KmsKeyId names, empty for the default key. It must be able to encrypt.
func (v *view) namedKey(id string) (string, error) {
	if id == "" {
		return "", nil
	}
	key, err := v.FindKey(id)
	if err != nil || key.Spec.Usage() != kms.EncryptDecrypt || v.Use(key).Usable() != nil {
		return "", encryptionFailure()
	}
	if key.ID == v.State.DefaultKeyID {
		return "", nil
	}
	return key.ID, nil
}

// seal encrypts a value under a data key of its own, wrapped under a KMS key.
func (v *view) seal(key *kms.Key, arn, versionID string, value plaintext) (*fsm.NewVersion, error) {
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
	wrapped, err := v.Encrypt(key, bound, raw)
	if err != nil {
		return nil, err
	}
	v.s.dataKeys.Add(wrapped, dataKey)
	return &fsm.NewVersion{ID: versionID, KeyID: key.ID, WrappedKey: wrapped, Sealed: sealed, Binary: value.binary}, nil
}

// unwrap opens the wrapped data key of a version, where its KMS key can be used.
func (v *view) unwrap(bound kms.EncryptionContext, wrapped []byte) ([]byte, error) {
	header, err := kms.ParseHeader(wrapped)
	if err != nil {
		return nil, decryptionFailure()
	}
	key := v.Key(v.Account, header.KeyID)
	if key == nil || v.Use(key).Usable() != nil {
		return nil, decryptionFailure()
	}
	raw, err := v.Decrypt(key, header.Generation, bound, wrapped)
	if err != nil {
		return nil, decryptionFailure()
	}
	return raw, nil
}

// rewrap wraps the data key of a version under a KMS key.
func (v *view) rewrap(key *kms.Key, arn, versionID string, wrapped []byte) (fsm.Rewrapped, error) {
	bound := kms.SecretContext(arn, versionID)
	raw, err := v.unwrap(bound, wrapped)
	if err != nil {
		return fsm.Rewrapped{}, err
	}
	defer clear(raw)
	again, err := v.Encrypt(key, bound, raw)
	return fsm.Rewrapped{Version: versionID, KeyID: key.ID, WrappedKey: again}, err
}

// open decrypts the value of a version. Whether its KMS key may be used is checked each time; its data key is
// unwrapped once.
func (v *view) open(arn string, version *secret.Version, value *secret.Value) (plaintext, error) {
	bound := kms.SecretContext(arn, version.ID)
	if version.KeyID != v.State.DefaultKeyID { // which is always usable
		if key := v.Key(v.Account, version.KeyID); key == nil || v.Use(key).Usable() != nil {
			return plaintext{}, decryptionFailure()
		}
	}
	key, err := v.s.dataKeys.Unwrap(value.WrappedKey, func() ([]byte, error) { return v.unwrap(bound, value.WrappedKey) })
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
	return refusal.Errorf(secret.KindEncryption,
		"Secrets Manager can't encrypt the protected secret text using the provided KMS key. Check that the KMS key is "+
			"available, enabled, and not in an invalid state.")
}

func decryptionFailure() error {
	return refusal.Errorf(secret.KindDecryption,
		"Secrets Manager can't decrypt the protected secret text using the provided KMS key.")
}
