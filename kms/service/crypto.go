package service

import (
	"context"

	"coffer/kms"
	"coffer/refusal"
	"coffer/serving"
)

// maxCiphertext is the longest CiphertextBlob of the service model, in bytes.
const maxCiphertext = 6144

// options are members that most cryptographic operations take.
type options struct {
	GrantTokens []string `json:"GrantTokens"`
	DryRun      *bool    `json:"DryRun"`
}

// check refuses grant tokens: there are no grants here, so none is valid.
func (o *options) check() error {
	if len(o.GrantTokens) > 0 {
		return refusal.Errorf(kms.KindInvalidGrantToken, "The grant token is not valid: there are no grants here.")
	}
	return nil
}

// ready is what a dry run ends with when everything else was in order.
func (o *options) ready() error {
	if deref(o.DryRun) {
		return refusal.Errorf(kms.KindDryRun, "The request would have succeeded, but the DryRun option is set.")
	}
	return nil
}

// usable is the key that id means, if it can be used by operation, which is one for keys of a usage.
func usable(v *serving.View, id string, usage kms.Usage, operation string) (*kms.Key, error) {
	key, err := find(v, id, true)
	if err != nil {
		return nil, err
	}
	return key, mayUse(v, key, usage, operation)
}

func mayUse(v *serving.View, key *kms.Key, usage kms.Usage, operation string) error {
	if key.Managed {
		return refusal.Errorf(kms.KindAccessDenied, "%s is managed by the service: it can't be used directly.",
			key.ARN(v.Region))
	}
	if key.Spec.Usage() != usage {
		return refusal.Errorf(kms.KindInvalidKeyUsage, "%s key usage is %s which is not valid for %s.",
			key.ARN(v.Region), key.Spec.Usage(), operation)
	}
	return v.Use(key).Usable()
}

func checkAlgorithm(v *serving.View, key *kms.Key, algorithm *string) error {
	if algorithm != nil && *algorithm != string(kms.Symmetric) {
		return refusal.Errorf(kms.KindInvalidKeyUsage, "%s does not support the algorithm %s: it supports %s.",
			key.ARN(v.Region), *algorithm, kms.Symmetric)
	}
	return nil
}

// decrypt opens a ciphertext with the key that made it, which must be the one that named means, if anything. It
// answers that key and the id of the material.
func decrypt(v *serving.View, named *string, ctx kms.EncryptionContext, algorithm *string, ciphertext []byte,
	operation string) (plaintext []byte, key *kms.Key, materialID string, err error) {
	header, headerErr := kms.ParseHeader(ciphertext)
	if named != nil {
		if key, err = usable(v, *named, kms.EncryptDecrypt, operation); err != nil {
			return nil, nil, "", err
		}
		if headerErr == nil && header.KeyID != key.ID {
			return nil, nil, "", refusal.Errorf(kms.KindIncorrectKey,
				"The key ID in the request does not identify a CMK that can perform this operation.")
		}
	}
	if headerErr != nil {
		return nil, nil, "", headerErr
	}
	if key == nil {
		if key = v.Key(v.Account, header.KeyID); key == nil {
			return nil, nil, "", kms.ErrInvalidCiphertext
		}
		if err := mayUse(v, key, kms.EncryptDecrypt, operation); err != nil {
			return nil, nil, "", err
		}
	}
	if err := checkAlgorithm(v, key, algorithm); err != nil {
		return nil, nil, "", err
	}
	plaintext, err = v.Decrypt(key, header.Generation, ctx, ciphertext)
	if err != nil {
		return nil, nil, "", err
	}
	return plaintext, key, key.Materials[header.Generation].ID, nil
}

// EncryptInput is the input of Encrypt.
type EncryptInput struct {
	options
	KeyID               *string               `json:"KeyId"`
	Plaintext           *[]byte               `json:"Plaintext"`
	EncryptionContext   kms.EncryptionContext `json:"EncryptionContext"`
	EncryptionAlgorithm *string               `json:"EncryptionAlgorithm"`
}

// EncryptOutput is the answer of Encrypt.
type EncryptOutput struct {
	CiphertextBlob      []byte   `json:"CiphertextBlob"`
	KeyID               string   `json:"KeyId"`
	EncryptionAlgorithm kms.Spec `json:"EncryptionAlgorithm"`
}

// Encrypt encrypts up to 4 KiB under a key.
func (s *Service) Encrypt(ctx context.Context, in *EncryptInput) (*EncryptOutput, error) {
	var c checks
	c.keyID(in.KeyID)
	c.blob("Plaintext", in.Plaintext, kms.MaxPlaintext)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	var out *EncryptOutput
	err := s.Read(ctx, func(v *serving.View) error {
		key, err := usable(v, *in.KeyID, kms.EncryptDecrypt, "Encrypt")
		if err != nil {
			return err
		}
		if err := checkAlgorithm(v, key, in.EncryptionAlgorithm); err != nil {
			return err
		}
		if err := in.ready(); err != nil {
			return err
		}
		ciphertext, err := v.Encrypt(key, in.EncryptionContext, *in.Plaintext)
		out = &EncryptOutput{ciphertext, key.ARN(v.Region), kms.Symmetric}
		return err
	})
	return out, err
}

// DecryptInput is the input of Decrypt.
type DecryptInput struct {
	options
	CiphertextBlob      *[]byte               `json:"CiphertextBlob"`
	EncryptionContext   kms.EncryptionContext `json:"EncryptionContext"`
	KeyID               *string               `json:"KeyId"`
	EncryptionAlgorithm *string               `json:"EncryptionAlgorithm"`
	Recipient           *struct{}             `json:"Recipient"`
	DryRunModifiers     []string              `json:"DryRunModifiers"`
}

// DecryptOutput is the answer of Decrypt.
type DecryptOutput struct {
	KeyID               string   `json:"KeyId"`
	Plaintext           []byte   `json:"Plaintext"`
	EncryptionAlgorithm kms.Spec `json:"EncryptionAlgorithm"`
	KeyMaterialID       string   `json:"KeyMaterialId"`
}

// noEnclaves refuses a Recipient: attestation documents of enclaves can't be verified here.
func noEnclaves(recipient *struct{}) error {
	if recipient != nil {
		return refusal.Errorf(kms.KindUnsupported, "Recipient is not supported here: there are no enclaves.")
	}
	return nil
}

// Decrypt opens what Encrypt or GenerateDataKey made.
func (s *Service) Decrypt(ctx context.Context, in *DecryptInput) (*DecryptOutput, error) {
	var c checks
	c.Length("KeyId", in.KeyID, 1, 2048)
	c.blob("CiphertextBlob", in.CiphertextBlob, maxCiphertext)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	if err := noEnclaves(in.Recipient); err != nil {
		return nil, err
	}
	var out *DecryptOutput
	err := s.Read(ctx, func(v *serving.View) error {
		plaintext, key, material, err := decrypt(v, in.KeyID, in.EncryptionContext, in.EncryptionAlgorithm,
			*in.CiphertextBlob, "Decrypt")
		if err != nil {
			return err
		}
		if err := in.ready(); err != nil {
			clear(plaintext)
			return err
		}
		out = &DecryptOutput{key.ARN(v.Region), plaintext, kms.Symmetric, material}
		return nil
	})
	return out, err
}

// ReEncryptInput is the input of ReEncrypt.
type ReEncryptInput struct {
	options
	CiphertextBlob                 *[]byte               `json:"CiphertextBlob"`
	SourceEncryptionContext        kms.EncryptionContext `json:"SourceEncryptionContext"`
	SourceKeyID                    *string               `json:"SourceKeyId"`
	DestinationKeyID               *string               `json:"DestinationKeyId"`
	DestinationEncryptionContext   kms.EncryptionContext `json:"DestinationEncryptionContext"`
	SourceEncryptionAlgorithm      *string               `json:"SourceEncryptionAlgorithm"`
	DestinationEncryptionAlgorithm *string               `json:"DestinationEncryptionAlgorithm"`
}

// ReEncryptOutput is the answer of ReEncrypt.
type ReEncryptOutput struct {
	CiphertextBlob                 []byte   `json:"CiphertextBlob"`
	SourceKeyID                    string   `json:"SourceKeyId"`
	KeyID                          string   `json:"KeyId"`
	SourceEncryptionAlgorithm      kms.Spec `json:"SourceEncryptionAlgorithm"`
	DestinationEncryptionAlgorithm kms.Spec `json:"DestinationEncryptionAlgorithm"`
	SourceKeyMaterialID            string   `json:"SourceKeyMaterialId"`
	DestinationKeyMaterialID       string   `json:"DestinationKeyMaterialId"`
}

// ReEncrypt opens a ciphertext and encrypts its content under another key, or the same one's current material.
func (s *Service) ReEncrypt(ctx context.Context, in *ReEncryptInput) (*ReEncryptOutput, error) {
	var c checks
	c.blob("CiphertextBlob", in.CiphertextBlob, maxCiphertext)
	c.Length("SourceKeyId", in.SourceKeyID, 1, 2048)
	c.Required("DestinationKeyId", in.DestinationKeyID != nil)
	c.Length("DestinationKeyId", in.DestinationKeyID, 1, 2048)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	var out *ReEncryptOutput
	err := s.Read(ctx, func(v *serving.View) error {
		to, err := usable(v, *in.DestinationKeyID, kms.EncryptDecrypt, "ReEncrypt")
		if err != nil {
			return err
		}
		if err := checkAlgorithm(v, to, in.DestinationEncryptionAlgorithm); err != nil {
			return err
		}
		plaintext, from, material, err := decrypt(v, in.SourceKeyID, in.SourceEncryptionContext, in.SourceEncryptionAlgorithm,
			*in.CiphertextBlob, "ReEncrypt")
		if err != nil {
			return err
		}
		defer clear(plaintext)
		if err := in.ready(); err != nil {
			return err
		}
		ciphertext, err := v.Encrypt(to, in.DestinationEncryptionContext, plaintext)
		out = &ReEncryptOutput{
			ciphertext, from.ARN(v.Region), to.ARN(v.Region), kms.Symmetric, kms.Symmetric, material,
			to.Materials[to.Current].ID,
		}
		return err
	})
	return out, err
}
