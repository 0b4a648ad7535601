package secretsmanager

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"coffer/kms"
	"coffer/secret"
)

// pageTokens seals where a list goes on. A token is encrypted under a key derived from the region's
// default key and bound to its query, so that every node can read it, and nobody can alter it or use it
// for another query.
type pageTokens struct{ keys *keyring }

func (p *pageTokens) aead(v *view) (cipher.AEAD, error) {
	material, err := p.keys.material(v.ctx, v.Tx, v.cluster.Account, kms.Header{KeyID: v.cluster.DefaultKeyID})
	if err != nil {
		return nil, err
	}
	key, err := hkdf.Key(sha256.New, material, nil, "coffer page tokens v1", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func binding(v *view, query []string) []byte {
	return []byte(v.account + "\x00" + strings.Join(query, "\x00"))
}

func (p *pageTokens) seal(v *view, query []string, position []byte) (string, error) {
	aead, err := p.aead(v)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(aead.Seal(nil, nil, position, binding(v, query))), nil
}

// open answers the position in a token, nil without one. Whatever seal did not make for this query fails with secret.ErrNextToken.
func (p *pageTokens) open(v *view, query []string, token *string) ([]byte, error) {
	if token == nil {
		return nil, nil
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(*token)
	if err != nil {
		return nil, secret.ErrNextToken
	}
	aead, err := p.aead(v)
	if err != nil {
		return nil, err
	}
	position, err := aead.Open(nil, nil, sealed, binding(v, query))
	if err != nil {
		return nil, secret.ErrNextToken
	}
	return position, nil
}
