package kms

import (
	"crypto/rsa"
	"crypto/sha1" // OAEP with SHA-1 is one of the API's algorithms
	"crypto/sha256"
	"hash"
	"strings"
)

// The algorithms that imported key material is encrypted with (GetParametersForImport).
const (
	wrapPKCS1   = "RSAES_PKCS1_V1_5"
	wrapOAEP1   = "RSAES_OAEP_SHA_1"
	wrapOAEP256 = "RSAES_OAEP_SHA_256"
	wrapAES1    = "RSA_AES_KEY_WRAP_SHA_1"
	wrapAES256  = "RSA_AES_KEY_WRAP_SHA_256"
)

// WrappingAlgorithms are the algorithms that UnwrapImported knows.
var WrappingAlgorithms = []string{wrapPKCS1, wrapOAEP1, wrapOAEP256, wrapAES1, wrapAES256}

// WrappingKeyBits are the lengths of RSA wrapping keys by their spec.
var WrappingKeyBits = map[string]int{"RSA_2048": 2048, "RSA_3072": 3072, "RSA_4096": 4096}

// UnwrapImported decrypts key material that was encrypted to key's public half with one of WrappingAlgorithms. It
// fails with ErrInvalidCiphertext.
func UnwrapImported(key *rsa.PrivateKey, algorithm string, encrypted []byte) (material []byte, err error) {
	digest := hash.Hash(sha256.New())
	if strings.HasSuffix(algorithm, "SHA_1") {
		digest = sha1.New()
	}
	switch algorithm {
	case wrapPKCS1:
		// One of the API's algorithms; only the account's own callers see whether it succeeds.
		material, err = rsa.DecryptPKCS1v15(nil, key, encrypted) //nolint:staticcheck // SA1019: as above
	case wrapOAEP1, wrapOAEP256:
		material, err = rsa.DecryptOAEP(digest, nil, key, encrypted, nil)
	case wrapAES1, wrapAES256: // the AES key under RSA, then the material under the AES key
		if len(encrypted) < key.Size() {
			return nil, ErrInvalidCiphertext
		}
		var kek []byte
		if kek, err = rsa.DecryptOAEP(digest, nil, key, encrypted[:key.Size()], nil); err == nil {
			material, err = unwrapPadded(kek, encrypted[key.Size():])
			clear(kek)
		}
	default:
		return nil, ErrInvalidCiphertext
	}
	if err != nil {
		return nil, ErrInvalidCiphertext
	}
	return material, nil
}
