package service

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"regexp"

	"github.com/fxamacker/cbor/v2"

	"coffer/fsm"
	"coffer/kms"
	"coffer/kms/rootkey"
	"coffer/refusal"
	"coffer/serving"
)

// importWindow is how long an import token is valid.
const importWindow = millisPerDay

const maxValidity = 365 * millisPerDay

// importToken is what an import token holds, sealed under a key of the region: any node can take the import,
// and none has to remember the wrapping key.
type importToken struct {
	KeyID      string `cbor:"1,keyasint"`
	Algorithm  string `cbor:"2,keyasint"`
	ValidTo    int64  `cbor:"3,keyasint"`
	PrivateKey []byte `cbor:"4,keyasint"` // PKCS #1
}

const importTokens = "import tokens"

// GetParametersForImportInput is the input of GetParametersForImport.
type GetParametersForImportInput struct {
	KeyID             *string `json:"KeyId"`
	WrappingAlgorithm *string `json:"WrappingAlgorithm"`
	WrappingKeySpec   *string `json:"WrappingKeySpec"`
}

// GetParametersForImportOutput is the answer of GetParametersForImport.
type GetParametersForImportOutput struct {
	KeyID             string       `json:"KeyId"`
	ImportToken       []byte       `json:"ImportToken"`
	PublicKey         []byte       `json:"PublicKey"`
	ParametersValidTo serving.Time `json:"ParametersValidTo"`
}

// GetParametersForImport draws an RSA wrapping key that material for one key can be encrypted to, for 24 hours.
func (s *Service) GetParametersForImport(ctx context.Context,
	in *GetParametersForImportInput) (*GetParametersForImportOutput, error) {
	var c checks
	c.keyID(in.KeyID)
	c.Required("WrappingAlgorithm", in.WrappingAlgorithm != nil)
	c.OneOf("WrappingAlgorithm", in.WrappingAlgorithm, append(kms.WrappingAlgorithms, "SM2PKE")...)
	c.Required("WrappingKeySpec", in.WrappingKeySpec != nil)
	c.OneOf("WrappingKeySpec", in.WrappingKeySpec, "RSA_2048", "RSA_3072", "RSA_4096", "SM2")
	if err := c.Err(); err != nil {
		return nil, err
	}
	bits := kms.WrappingKeyBits[*in.WrappingKeySpec]
	if bits == 0 || *in.WrappingAlgorithm == "SM2PKE" {
		return nil, refusal.Errorf(kms.KindUnsupported, "SM2 is not supported here: use an RSA wrapping key.")
	}
	importable := func(v *serving.View) (*kms.Key, error) {
		key, err := find(v, *in.KeyID, false)
		if err != nil {
			return nil, err
		}
		return key, v.Use(key).Importable()
	}
	if err := s.Read(ctx, func(v *serving.View) error { _, err := importable(v); return err }); err != nil {
		return nil, err
	}
	wrapping, err := rsa.GenerateKey(rand.Reader, bits) // takes long: outside of a transaction
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(&wrapping.PublicKey)
	if err != nil {
		return nil, err
	}
	out := &GetParametersForImportOutput{PublicKey: public, ParametersValidTo: serving.Time(s.Millis() + importWindow)}
	err = s.Read(ctx, func(v *serving.View) error {
		key, err := importable(v)
		if err != nil {
			return err
		}
		content, err := cbor.Marshal(importToken{
			key.ID, *in.WrappingAlgorithm, int64(out.ParametersValidTo), x509.MarshalPKCS1PrivateKey(wrapping),
		})
		if err != nil {
			return err
		}
		defer clear(content)
		out.KeyID = key.ARN(v.Region)
		out.ImportToken, err = v.SealToken(importTokens, nil, content)
		return err
	})
	return out, err
}

// ImportKeyMaterialInput is the input of ImportKeyMaterial.
type ImportKeyMaterialInput struct {
	KeyID                  *string       `json:"KeyId"`
	ImportToken            *[]byte       `json:"ImportToken"`
	EncryptedKeyMaterial   *[]byte       `json:"EncryptedKeyMaterial"`
	ValidTo                *serving.Time `json:"ValidTo"`
	ExpirationModel        *string       `json:"ExpirationModel"`
	ImportType             *string       `json:"ImportType"`
	KeyMaterialDescription *string       `json:"KeyMaterialDescription"`
	KeyMaterialID          *string       `json:"KeyMaterialId"`
}

// MaterialOutput names a key and material of it.
type MaterialOutput struct {
	KeyID         string `json:"KeyId"`
	KeyMaterialID string `json:"KeyMaterialId,omitempty"`
}

var (
	materialID          = regexp.MustCompile(`^[a-f0-9]{64}$`)
	materialDescription = regexp.MustCompile(`^[a-zA-Z0-9:/_\s.-]+$`)
)

func (c *checks) materialID(id *string) {
	if id != nil && !materialID.MatchString(*id) {
		c.Fail("KeyMaterialId", *id, "Member must satisfy regular expression pattern: ^[a-f0-9]+$ and have 64 characters")
	}
}

// validity checks when imported material expires, and answers it; 0 if it does not.
func (s *Service) validity(in *ImportKeyMaterialInput) (int64, error) {
	now := s.Millis()
	switch {
	case deref(in.ExpirationModel) == expiresNot && in.ValidTo != nil:
		return 0, refusal.Errorf(refusal.KindValidation, "ValidTo must not be specified when the ExpirationModel is %s.",
			expiresNot)
	case deref(in.ExpirationModel) == expiresNot:
		return 0, nil
	case in.ValidTo == nil:
		return 0, refusal.Errorf(refusal.KindValidation, "A validTo date must be set if the ExpirationModel is %s", expires)
	case int64(*in.ValidTo) <= now || int64(*in.ValidTo) > now+maxValidity:
		return 0, refusal.Errorf(refusal.KindValidation, "ValidTo must be in the future, and at most 365 days from now.")
	}
	return int64(*in.ValidTo), nil
}

// ImportKeyMaterial takes key material that was encrypted with the answer of GetParametersForImport.
func (s *Service) ImportKeyMaterial(ctx context.Context, in *ImportKeyMaterialInput) (*MaterialOutput, error) {
	var c checks
	c.keyID(in.KeyID)
	c.blob("ImportToken", in.ImportToken, maxCiphertext)
	c.blob("EncryptedKeyMaterial", in.EncryptedKeyMaterial, maxCiphertext)
	c.OneOf("ExpirationModel", in.ExpirationModel, expires, expiresNot)
	c.OneOf("ImportType", in.ImportType, "NEW_KEY_MATERIAL", "EXISTING_KEY_MATERIAL")
	c.Length("KeyMaterialDescription", in.KeyMaterialDescription, 0, 256)
	if d := deref(in.KeyMaterialDescription); d != "" && !materialDescription.MatchString(d) {
		c.Fail("KeyMaterialDescription", d, "Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_\\s.-]+$")
	}
	c.materialID(in.KeyMaterialID)
	if err := c.Err(); err != nil {
		return nil, err
	}
	validTo, err := s.validity(in)
	if err != nil {
		return nil, err
	}
	how := kms.Import{ValidTo: validTo, MaterialID: deref(in.KeyMaterialID), Description: in.KeyMaterialDescription}
	if in.ImportType != nil {
		isNew := *in.ImportType == "NEW_KEY_MATERIAL"
		how.New = &isNew
		if isNew && in.KeyMaterialID != nil {
			return nil, refusal.Errorf(refusal.KindValidation,
				"You cannot specify a KeyMaterialId with ImportType NEW_KEY_MATERIAL.")
		}
	}
	out := &MaterialOutput{}
	var m made
	_, err = s.change(ctx, *in.KeyID, func(v *serving.View, key *kms.Key, ref fsm.KeyRef) (fsm.Command, error) {
		if err := v.Use(key).Importable(); err != nil {
			return nil, err
		}
		raw, err := openImport(v, key, *in.ImportToken, *in.EncryptedKeyMaterial)
		if err != nil {
			return nil, err
		}
		id := key.MaterialID(raw)
		generation := key.ImportGeneration(id)
		if !m.fits(v, generation) {
			return nil, v.Outside(func(ctx context.Context, root rootkey.Provider) (err error) {
				defer clear(raw)
				m.root, m.generation = root.ID(), generation
				m.Material, err = key.WrapMaterial(ctx, root, generation, raw)
				return err
			})
		}
		clear(raw)
		out.KeyID = key.ARN(v.Region)
		if key.Spec == kms.Symmetric {
			out.KeyMaterialID = id
		}
		return &fsm.ImportMaterial{
			Ref: ref, At: s.Millis(), Material: m.Material, Generation: generation, Import: how, Root: m.root,
		}, nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// openImport decrypts material that is to be imported into key.
func openImport(v *serving.View, key *kms.Key, sealed, encrypted []byte) ([]byte, error) {
	content, err := v.OpenToken(importTokens, nil, sealed)
	if errors.Is(err, serving.ErrToken) {
		return nil, refusal.Errorf(kms.KindInvalidImportToken, "The import token is not valid for this key.")
	} else if err != nil {
		return nil, err
	}
	defer clear(content)
	var token importToken
	if err := cbor.Unmarshal(content, &token); err != nil {
		return nil, err
	}
	defer clear(token.PrivateKey)
	switch {
	case token.KeyID != key.ID:
		return nil, refusal.Errorf(kms.KindInvalidImportToken, "The import token is not valid for this key.")
	case token.ValidTo <= v.Millis():
		return nil, refusal.Errorf(kms.KindExpiredImportToken,
			"The import token has expired: call GetParametersForImport again.")
	}
	private, err := x509.ParsePKCS1PrivateKey(token.PrivateKey)
	if err != nil {
		return nil, err
	}
	raw, err := kms.UnwrapImported(private, token.Algorithm, encrypted)
	if err != nil {
		return nil, err
	}
	if len(raw) != key.Spec.MaterialLen() {
		clear(raw)
		return nil, refusal.Errorf(kms.KindIncorrectMaterial, "Key material for %s has %d bytes.",
			key.Spec, key.Spec.MaterialLen())
	}
	return raw, nil
}

// DeleteImportedKeyMaterialInput is the input of DeleteImportedKeyMaterial.
type DeleteImportedKeyMaterialInput struct {
	KeyID         *string `json:"KeyId"`
	KeyMaterialID *string `json:"KeyMaterialId"`
}

// DeleteImportedKeyMaterial deletes imported material: the current one unless another is named. The key can't be
// used until the same material is imported again.
func (s *Service) DeleteImportedKeyMaterial(ctx context.Context,
	in *DeleteImportedKeyMaterialInput) (*MaterialOutput, error) {
	var c checks
	c.keyID(in.KeyID)
	c.materialID(in.KeyMaterialID)
	if err := c.Err(); err != nil {
		return nil, err
	}
	out := &MaterialOutput{}
	_, err := s.change(ctx, *in.KeyID, func(v *serving.View, key *kms.Key, ref fsm.KeyRef) (fsm.Command, error) {
		without := *key
		deleted, err := v.Use(&without).DeleteMaterial(deref(in.KeyMaterialID))
		if err != nil {
			return nil, err
		}
		out.KeyID = key.ARN(v.Region)
		if key.Spec == kms.Symmetric {
			out.KeyMaterialID = deleted
		}
		if deleted == "" {
			return nil, nil
		}
		return &fsm.DeleteMaterial{Ref: ref, At: s.Millis(), MaterialID: deleted}, nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
