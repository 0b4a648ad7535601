package service

import (
	"context"
	"io"

	"coffer/kms"
	"coffer/refusal"
	"coffer/serving"
)

// DataKeyInput is the input of GenerateDataKey and GenerateDataKeyWithoutPlaintext.
type DataKeyInput struct {
	options
	KeyID             *string               `json:"KeyId"`
	EncryptionContext kms.EncryptionContext `json:"EncryptionContext"`
	NumberOfBytes     *int64                `json:"NumberOfBytes"`
	KeySpec           *string               `json:"KeySpec"`
	Recipient         *struct{}             `json:"Recipient"`
}

// DataKeyOutput is the answer of both.
type DataKeyOutput struct {
	CiphertextBlob []byte `json:"CiphertextBlob"`
	Plaintext      []byte `json:"Plaintext,omitempty"`
	KeyID          string `json:"KeyId"`
	KeyMaterialID  string `json:"KeyMaterialId"`
}

// GenerateDataKey draws a data key and answers it in the clear and encrypted under a key.
func (s *Service) GenerateDataKey(ctx context.Context, in *DataKeyInput) (*DataKeyOutput, error) {
	return s.dataKey(ctx, in, "GenerateDataKey")
}

// GenerateDataKeyWithoutPlaintext draws a data key and answers it encrypted under a key only.
func (s *Service) GenerateDataKeyWithoutPlaintext(ctx context.Context, in *DataKeyInput) (*DataKeyOutput, error) {
	out, err := s.dataKey(ctx, in, "GenerateDataKeyWithoutPlaintext")
	if err != nil {
		return nil, err
	}
	clear(out.Plaintext)
	out.Plaintext = nil
	return out, nil
}

func (s *Service) dataKey(ctx context.Context, in *DataKeyInput, operation string) (*DataKeyOutput, error) {
	var c checks
	c.keyID(in.KeyID)
	c.Between("NumberOfBytes", in.NumberOfBytes, 1, 1024)
	c.OneOf("KeySpec", in.KeySpec, "AES_256", "AES_128")
	if err := c.Err(); err != nil {
		return nil, err
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	if err := noEnclaves(in.Recipient); err != nil {
		return nil, err
	}
	if (in.NumberOfBytes == nil) == (in.KeySpec == nil) {
		return nil, refusal.Errorf(refusal.KindValidation, "Please specify either number of bytes or key spec.")
	}
	n := deref(in.NumberOfBytes)
	switch deref(in.KeySpec) {
	case "AES_256":
		n = 32
	case "AES_128":
		n = 16
	}
	var out *DataKeyOutput
	err := s.Read(ctx, func(v *serving.View) error {
		key, err := usable(v, *in.KeyID, kms.EncryptDecrypt, operation)
		if err != nil {
			return err
		}
		if err := in.ready(); err != nil {
			return err
		}
		raw := make([]byte, n)
		if _, err := io.ReadFull(s.Random, raw); err != nil {
			return err
		}
		ciphertext, err := v.Encrypt(key, in.EncryptionContext, raw)
		out = &DataKeyOutput{ciphertext, raw, key.ARN(v.Region), key.Materials[key.Current].ID}
		return err
	})
	return out, err
}

// GenerateRandomInput is the input of GenerateRandom.
type GenerateRandomInput struct {
	NumberOfBytes    *int64    `json:"NumberOfBytes"`
	CustomKeyStoreID *string   `json:"CustomKeyStoreId"`
	Recipient        *struct{} `json:"Recipient"`
}

// GenerateRandomOutput is the answer of GenerateRandom.
type GenerateRandomOutput struct {
	Plaintext []byte `json:"Plaintext"`
}

// GenerateRandom answers random bytes.
func (s *Service) GenerateRandom(ctx context.Context, in *GenerateRandomInput) (*GenerateRandomOutput, error) {
	var c checks
	c.Required("NumberOfBytes", in.NumberOfBytes != nil)
	c.Between("NumberOfBytes", in.NumberOfBytes, 1, 1024)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if err := noEnclaves(in.Recipient); err != nil {
		return nil, err
	}
	if in.CustomKeyStoreID != nil {
		return nil, refusal.Errorf(kms.KindUnsupported, "Custom key stores are not supported here.")
	}
	if err := s.Unsealed(ctx); err != nil {
		return nil, err
	}
	raw := make([]byte, *in.NumberOfBytes)
	_, err := io.ReadFull(s.Random, raw)
	return &GenerateRandomOutput{raw}, err
}
