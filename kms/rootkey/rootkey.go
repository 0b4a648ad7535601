// Package rootkey holds the providers of a region's root key: the key that wraps its KMS keys and is
// stored nowhere in the cluster. Every node of a region needs the same one.
package rootkey

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Provider wraps and unwraps under a root key.
type Provider interface {
	Wrap(ctx context.Context, plaintext, additional []byte) ([]byte, error)
	Unwrap(ctx context.Context, wrapped, additional []byte) ([]byte, error)
	// ID tells root keys apart without revealing them: nodes compare it, so that one with another root key is refused.
	ID() string
}

// ErrWrongKey says that something was wrapped under another root key, or altered since.
var ErrWrongKey = errors.New("it was wrapped under another root key, or damaged since")

const keyLen = 32

// inMemory is a root key that was read from a file, the environment, or shares.
type inMemory struct {
	aead cipher.AEAD
	id   string
}

// File reads a root key from the file at path: 32 bytes in base64, readable by its owner only.
func File(path string) (Provider, error) {
	raw, err := ReadPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the root key file %s does not exist: bring it back from where you keep its copy, or make "+
			"one for a new cluster with `coffer keygen root-key`", path)
	} else if err != nil {
		return nil, fmt.Errorf("root key: %w", err)
	}
	defer clear(raw)
	p, err := parse(raw)
	if err != nil {
		return nil, fmt.Errorf("the root key file %s %w", path, err)
	}
	return p, nil
}

// parse makes a provider of a root key in base64.
func parse(text []byte) (Provider, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != keyLen {
		return nil, errors.New("does not hold a root key: wanted 32 bytes in base64, as `coffer keygen root-key` writes them")
	}
	defer clear(key)
	return New(key)
}

// New makes a provider of the 32 bytes of key, which it does not keep.
func New(key []byte) (Provider, error) {
	if len(key) != keyLen {
		return nil, fmt.Errorf("a root key has %d bytes, not %d", keyLen, len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("coffer root key id v1"))
	return &inMemory{aead, hex.EncodeToString(mac.Sum(nil)[:16])}, nil
}

func (f *inMemory) Wrap(_ context.Context, plaintext, additional []byte) ([]byte, error) {
	return f.aead.Seal(nil, nil, plaintext, additional), nil
}

func (f *inMemory) Unwrap(_ context.Context, wrapped, additional []byte) ([]byte, error) {
	plaintext, err := f.aead.Open(nil, nil, wrapped, additional)
	if err != nil {
		return nil, ErrWrongKey
	}
	return plaintext, nil
}

func (f *inMemory) ID() string { return f.id }

// Generate draws a root key in the form that File reads.
func Generate() []byte {
	key := make([]byte, keyLen)
	rand.Read(key) // never fails (crypto/rand)
	return append([]byte(base64.StdEncoding.EncodeToString(key)), '\n')
}

// ReadPrivate reads a file that only its owner may read; it refuses one that others can.
func ReadPrivate(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("the file %s has mode %04o, so others can reach it: wanted 0600 (chmod 600 %s)",
			path, mode, path)
	}
	return os.ReadFile(path)
}
