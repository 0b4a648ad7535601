// Package kms is the pure core of a region's key management: KMS keys, the envelope format of their
// ciphertexts, and the sealing of secret values under data keys.
//
// There are three layers of keys. A version of a secret has a data key of its own; the data key is
// stored wrapped under a KMS key; the KMS key's material is stored wrapped under the region's root
// key, which a root key provider holds (package kms/rootkey) and which is stored nowhere. KMS keys
// never leave their region.
package kms
