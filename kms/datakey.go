package kms

import (
	"crypto/cipher"
	"crypto/rand"
	"io"

	lru "github.com/hashicorp/golang-lru/v2"
)

// DataKey encrypts the one value of one version.
type DataKey struct{ aead cipher.AEAD }

// NewDataKey draws a data key; raw is its 32 bytes, to be wrapped and cleared by the caller.
func NewDataKey(random io.Reader) (key DataKey, raw []byte, err error) {
	raw = make([]byte, keyLen)
	if _, err := io.ReadFull(random, raw); err != nil {
		return DataKey{}, nil, err
	}
	aead, err := newGCM(raw)
	return DataKey{aead}, raw, err
}

// Seal encrypts a value, bound to ctx. The answer is a random nonce followed by ciphertext and tag.
func (k DataKey) Seal(ctx EncryptionContext, value []byte) ([]byte, error) {
	out := make([]byte, nonceLen, nonceLen+len(value)+tagLen)
	if _, err := rand.Read(out); err != nil {
		return nil, err
	}
	return k.aead.Seal(out, out, value, ctx.canonical(nil)), nil
}

// Open decrypts what Seal made. It fails with ErrInvalidCiphertext.
func (k DataKey) Open(ctx EncryptionContext, sealed []byte) ([]byte, error) {
	if len(sealed) < nonceLen+tagLen {
		return nil, ErrInvalidCiphertext
	}
	value, err := k.aead.Open(nil, sealed[:nonceLen], sealed[nonceLen:], ctx.canonical(nil))
	if err != nil {
		return nil, ErrInvalidCiphertext
	}
	return value, nil
}

// cachedDataKeys bounds the unwrapped data keys that a node holds: about 1 KiB each.
const cachedDataKeys = 4096

// Cache holds unwrapped data keys, so that reading a secret again unwraps nothing.
type Cache struct {
	keys *lru.Cache[string, DataKey]
}

// NewCache makes an empty cache.
func NewCache() *Cache {
	keys, err := lru.New[string, DataKey](cachedDataKeys)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	return &Cache{keys}
}

// Add remembers the data key that wrapped holds.
func (c *Cache) Add(wrapped []byte, key DataKey) { c.keys.Add(string(wrapped), key) }

// Unwrap opens a wrapped data key with open, or finds it in the cache. The wrapped bytes name the key
// wholly: they are unique, and authenticated together with their context, which the value is bound to as well.
func (c *Cache) Unwrap(wrapped []byte, open func() ([]byte, error)) (DataKey, error) {
	if key, ok := c.keys.Get(string(wrapped)); ok {
		return key, nil
	}
	raw, err := open()
	if err != nil {
		return DataKey{}, err
	}
	defer clear(raw)
	aead, err := newGCM(raw)
	if err != nil {
		return DataKey{}, ErrInvalidCiphertext
	}
	key := DataKey{aead}
	c.Add(wrapped, key)
	return key, nil
}
