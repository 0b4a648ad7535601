package service

import (
	"context"
	"crypto/hmac"

	"coffer/kms"
	"coffer/refusal"
	"coffer/serving"
)

// MacInput is the input of GenerateMac and VerifyMac.
type MacInput struct {
	options
	Message      *[]byte `json:"Message"`
	KeyID        *string `json:"KeyId"`
	MacAlgorithm *string `json:"MacAlgorithm"`
	Mac          *[]byte `json:"Mac"`
}

// GenerateMacOutput is the answer of GenerateMac.
type GenerateMacOutput struct {
	Mac          []byte `json:"Mac"`
	MacAlgorithm string `json:"MacAlgorithm"`
	KeyID        string `json:"KeyId"`
}

// GenerateMac computes the MAC of a message.
func (s *Service) GenerateMac(ctx context.Context, in *MacInput) (*GenerateMacOutput, error) {
	var out *GenerateMacOutput
	err := s.mac(ctx, in, "GenerateMac", func(mac []byte, arn string) error {
		out = &GenerateMacOutput{mac, *in.MacAlgorithm, arn}
		return nil
	})
	return out, err
}

// VerifyMacOutput is the answer of VerifyMac.
type VerifyMacOutput struct {
	KeyID        string `json:"KeyId"`
	MacValid     bool   `json:"MacValid"`
	MacAlgorithm string `json:"MacAlgorithm"`
}

// VerifyMac verifies the MAC of a message; a wrong one is an error.
func (s *Service) VerifyMac(ctx context.Context, in *MacInput) (*VerifyMacOutput, error) {
	var c checks
	c.blob("Mac", in.Mac, maxCiphertext)
	if err := c.Err(); err != nil {
		return nil, err
	}
	var out *VerifyMacOutput
	err := s.mac(ctx, in, "VerifyMac", func(mac []byte, arn string) error {
		if !hmac.Equal(mac, *in.Mac) {
			return refusal.Errorf(kms.KindInvalidMac, "The MAC does not verify for this message, key and algorithm.")
		}
		out = &VerifyMacOutput{arn, true, *in.MacAlgorithm}
		return nil
	})
	return out, err
}

func (s *Service) mac(ctx context.Context, in *MacInput, operation string,
	done func(mac []byte, arn string) error) error {
	var c checks
	c.keyID(in.KeyID)
	c.blob("Message", in.Message, kms.MaxPlaintext)
	c.Required("MacAlgorithm", in.MacAlgorithm != nil)
	c.OneOf("MacAlgorithm", in.MacAlgorithm, "HMAC_SHA_224", "HMAC_SHA_256", "HMAC_SHA_384", "HMAC_SHA_512")
	if err := c.Err(); err != nil {
		return err
	}
	if err := in.check(); err != nil {
		return err
	}
	return s.Read(ctx, func(v *serving.View) error {
		key, err := usable(v, *in.KeyID, kms.GenerateVerifyMac, operation)
		if err != nil {
			return err
		}
		if key.Spec.MacAlgorithm() != *in.MacAlgorithm {
			return refusal.Errorf(kms.KindInvalidKeyUsage, "%s does not support the algorithm %s: it supports %s.",
				key.ARN(v.Region), *in.MacAlgorithm, key.Spec.MacAlgorithm())
		}
		if err := in.ready(); err != nil {
			return err
		}
		material, err := v.Material(key, key.Generation())
		if err != nil {
			return err
		}
		return done(key.Spec.Mac(material, *in.Message), key.ARN(v.Region))
	})
}
