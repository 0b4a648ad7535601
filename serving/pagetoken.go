package serving

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
)

// derived is an AEAD under a key that is derived from the region's default key for one purpose.
func (v *View) derived(purpose string) (cipher.AEAD, error) {
	material, err := v.defaultMaterial()
	if err != nil {
		return nil, err
	}
	key, err := hkdf.Key(sha256.New, material, nil, purpose, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// SealToken encrypts what a client brings back later, for a purpose and bound to a query: every node of the
// region can read it, and nobody can alter it or use it for another query.
func (v *View) SealToken(purpose string, query []string, content []byte) ([]byte, error) {
	aead, err := v.derived("coffer " + purpose + " v1")
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, content, v.binding(query)), nil
}

// ErrToken says that a token is not one of SealToken's for the purpose and query.
var ErrToken = errors.New("the token was not made for this")

// OpenToken is the inverse of SealToken. It fails with ErrToken.
func (v *View) OpenToken(purpose string, query []string, sealed []byte) ([]byte, error) {
	aead, err := v.derived("coffer " + purpose + " v1")
	if err != nil {
		return nil, err
	}
	content, err := aead.Open(nil, nil, sealed, v.binding(query))
	if err != nil {
		return nil, ErrToken
	}
	return content, nil
}

func (v *View) binding(query []string) []byte {
	return []byte(v.Account + "\x00" + strings.Join(query, "\x00"))
}

const pageTokens = "page tokens"

// SealPage makes the token of the page that goes on from position.
func (v *View) SealPage(query []string, position []byte) (string, error) {
	sealed, err := v.SealToken(pageTokens, query, position)
	return base64.RawURLEncoding.EncodeToString(sealed), err
}

// OpenPage answers the position in a page token, nil without one. It fails with ErrToken.
func (v *View) OpenPage(query []string, token *string) ([]byte, error) {
	if token == nil {
		return nil, nil
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(*token)
	if err != nil {
		return nil, ErrToken
	}
	return v.OpenToken(pageTokens, query, sealed)
}
