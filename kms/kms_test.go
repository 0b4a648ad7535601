package kms_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"coffer/kms"
	"coffer/kms/rootkey"
)

var (
	keyID    = uuid.MustParse("0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9")
	material = bytes.Repeat([]byte{7}, 32)
	bound    = kms.SecretContext("arn:aws:secretsmanager:us-east-1:123456789012:secret:a-AbCdEf", "v1")
)

func TestSealOpen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "plain")
		ctx := kms.EncryptionContext(rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "context"))
		sealed, err := kms.Seal(material, keyID, 3, ctx, plain, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if h, err := kms.ParseHeader(sealed); err != nil || h.KeyID != keyID.String() || h.Generation != 3 {
			t.Fatalf("header %+v, %v", h, err)
		}
		opened, err := kms.Open(material, ctx, sealed)
		if err != nil || !bytes.Equal(opened, plain) {
			t.Fatal("it does not open to what was sealed")
		}
		ctx["more"] += "x"
		if _, err := kms.Open(material, ctx, sealed); err == nil {
			t.Fatal("it opens with another context")
		}
	})
}

// TestEveryByteCounts changes each byte of a ciphertext and of a sealed value: none opens.
func TestEveryByteCounts(t *testing.T) {
	sealed, err := kms.Seal(material, keyID, 0, bound, []byte("data key"), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, raw, err := kms.NewDataKey(rand.Reader)
	if err != nil || len(raw) != 32 {
		t.Fatal(err)
	}
	value, err := key.Seal(bound, []byte("value"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range sealed {
		b := bytes.Clone(sealed)
		b[i] ^= 1
		if _, err := kms.Open(material, bound, b); err == nil {
			t.Errorf("a ciphertext opens with byte %d changed", i)
		}
	}
	for i := range value {
		b := bytes.Clone(value)
		b[i] ^= 1
		if _, err := key.Open(bound, b); err == nil {
			t.Errorf("a value opens with byte %d changed", i)
		}
	}
	other := kms.SecretContext("arn:aws:secretsmanager:us-east-1:123456789012:secret:b-AbCdEf", "v1")
	if _, err := key.Open(other, value); err == nil {
		t.Error("a value opens as another secret's")
	}
}

// TestVectors holds the format still: ciphertexts that a released version made must open for ever.
func TestVectors(t *testing.T) {
	var vectors []struct {
		Material, Ciphertext, Plaintext string
		Context                         kms.EncryptionContext
	}
	b, err := os.ReadFile("testdata/envelope.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &vectors); err != nil || len(vectors) == 0 {
		t.Fatal("no vectors", err)
	}
	for i, v := range vectors {
		m, _ := hex.DecodeString(v.Material)
		c, _ := hex.DecodeString(v.Ciphertext)
		if plain, err := kms.Open(m, v.Context, c); err != nil || string(plain) != v.Plaintext {
			t.Errorf("vector %d: %v", i, err)
		}
	}
}

func TestKeyMaterialIsBound(t *testing.T) {
	ctx := context.Background()
	root, err := rootkey.New(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	key, err := kms.NewKey(ctx, root, "123456789012", kms.Symmetric, 1, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := key.UnwrapMaterial(ctx, root, 0); err != nil || len(m) != 32 {
		t.Fatal(err)
	}
	moved := key
	moved.ID = uuid.NewString()
	if _, err := moved.UnwrapMaterial(ctx, root, 0); err == nil {
		t.Error("material unwraps as another key's")
	}
	other, err := rootkey.New(bytes.Repeat([]byte{2}, 32))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := key.UnwrapMaterial(ctx, other, 0); err == nil {
		t.Error("material unwraps under another root key")
	}
}

func FuzzOpen(f *testing.F) {
	sealed, err := kms.Seal(material, keyID, 0, bound, []byte("data key"), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if plain, err := kms.Open(material, bound, b); err == nil && !bytes.Equal(b, sealed) && string(plain) != "data key" {
			t.Error("something opens that was never sealed")
		}
	})
}
