package kms

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
)

// macs are the MAC algorithms by the spec of the key that computes them.
var macs = map[Spec]struct {
	algorithm string
	hash      func() hash.Hash
}{
	HMAC224: {"HMAC_SHA_224", sha256.New224},
	HMAC256: {"HMAC_SHA_256", sha256.New},
	HMAC384: {"HMAC_SHA_384", sha512.New384},
	HMAC512: {"HMAC_SHA_512", sha512.New},
}

// MacAlgorithm is the MAC algorithm of an HMAC spec, as the KMS API spells it.
func (s Spec) MacAlgorithm() string { return macs[s].algorithm }

// Mac computes the MAC of message (RFC 2104) with key material of an HMAC spec.
func (s Spec) Mac(material, message []byte) []byte {
	h := hmac.New(macs[s].hash, material)
	h.Write(message)
	return h.Sum(nil)
}
