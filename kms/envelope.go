package kms

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"

	"github.com/google/uuid"
)

// The ciphertext of a KMS key, version 1:
//
//	 0      1 byte    format version
//	 1     16 bytes   key id (UUID)
//	17      4 bytes   material generation, big-endian
//	21     16 bytes   salt
//	37      n bytes   AES-256-GCM of the plaintext
//	37+n   16 bytes   tag
//
// The AES key and nonce of a message are derived from the key's material and the random salt
// (HKDF-SHA256, RFC 5869), so the number of messages under one key is no concern. Header and
// encryption context are additional data.
const (
	envelopeVersion = 1
	saltLen         = 16
	headerLen       = 1 + 16 + 4 + saltLen
	keyLen          = 32
	nonceLen        = 12
	tagLen          = 16
)

// MaxPlaintext is the longest plaintext of Seal, in bytes (EncryptRequest of the KMS service model).
const MaxPlaintext = 4096

// Header is what a ciphertext says of itself before it is opened.
type Header struct {
	KeyID      string
	Generation uint32
}

// ParseHeader reads which key made the ciphertext. It authenticates nothing.
func ParseHeader(ciphertext []byte) (Header, error) {
	if len(ciphertext) < headerLen+tagLen || len(ciphertext) > headerLen+MaxPlaintext+tagLen ||
		ciphertext[0] != envelopeVersion {
		return Header{}, ErrInvalidCiphertext
	}
	return Header{
		KeyID:      uuid.UUID(ciphertext[1:17]).String(),
		Generation: binary.BigEndian.Uint32(ciphertext[17:21]),
	}, nil
}

// Seal encrypts plaintext under material, one generation of key id's material.
func Seal(material []byte, id uuid.UUID, generation uint32, ctx EncryptionContext, plaintext []byte,
	random io.Reader) ([]byte, error) {
	if len(plaintext) > MaxPlaintext {
		return nil, errors.New("plaintext of a KMS key is limited to 4096 bytes")
	}
	out := make([]byte, headerLen, headerLen+len(plaintext)+tagLen)
	out[0] = envelopeVersion
	copy(out[1:], id[:])
	binary.BigEndian.PutUint32(out[17:], generation)
	if _, err := io.ReadFull(random, out[21:headerLen]); err != nil {
		return nil, err
	}
	aead, nonce, err := derive(material, out[21:headerLen])
	if err != nil {
		return nil, err
	}
	return aead.Seal(out, nonce, plaintext, ctx.canonical(out[:headerLen:headerLen])), nil
}

// Open decrypts what Seal made. Anything but the same material, context and bytes fails with ErrInvalidCiphertext.
func Open(material []byte, ctx EncryptionContext, ciphertext []byte) ([]byte, error) {
	if _, err := ParseHeader(ciphertext); err != nil {
		return nil, err
	}
	aead, nonce, err := derive(material, ciphertext[21:headerLen])
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Open(nil, nonce, ciphertext[headerLen:], ctx.canonical(ciphertext[:headerLen:headerLen]))
	if err != nil {
		return nil, ErrInvalidCiphertext
	}
	return plaintext, nil
}

func derive(material, salt []byte) (cipher.AEAD, []byte, error) {
	okm, err := hkdf.Key(sha256.New, material, salt, "coffer kms message v1", keyLen+nonceLen)
	if err != nil {
		return nil, nil, err
	}
	aead, err := newGCM(okm[:keyLen])
	return aead, okm[keyLen:], err
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
