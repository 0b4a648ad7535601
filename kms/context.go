package kms

import (
	"encoding/binary"
	"sort"
)

// EncryptionContext is authenticated with a ciphertext and must be the same to open it.
type EncryptionContext map[string]string

// canonical is the context as unambiguous bytes: its pairs sorted by key, each string after its length.
func (c EncryptionContext) canonical(b []byte) []byte {
	keys := make([]string, 0, len(c))
	for k := range c {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		b = appendString(appendString(b, k), c[k])
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// SecretContext is the context that Secrets Manager binds a version's data key to (AWS user guide,
// "Secret encryption and decryption in AWS Secrets Manager").
func SecretContext(arn, versionID string) EncryptionContext {
	return EncryptionContext{"SecretARN": arn, "SecretVersionId": versionID}
}
