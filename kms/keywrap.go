package kms

import (
	"crypto/aes"
	"crypto/subtle"
	"encoding/binary"
)

// unwrapPadded unwraps a key with AES Key Wrap with Padding (RFC 5649). A wrong key or altered bytes fail
// with ErrInvalidCiphertext.
func unwrapPadded(kek, wrapped []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil || len(wrapped) < 16 || len(wrapped)%8 != 0 {
		return nil, ErrInvalidCiphertext
	}
	a, r := make([]byte, 8), make([]byte, len(wrapped)-8)
	if len(wrapped) == 16 { // section 4.2: one block
		b := make([]byte, 16)
		block.Decrypt(b, wrapped)
		copy(a, b)
		copy(r, b[8:])
	} else { // the inverse of RFC 3394, section 2.2.2
		copy(a, wrapped)
		copy(r, wrapped[8:])
		n := len(r) / 8
		b := make([]byte, 16)
		for j := 5; j >= 0; j-- {
			for i := n; i >= 1; i-- {
				binary.BigEndian.PutUint64(b, binary.BigEndian.Uint64(a)^uint64(n*j+i))
				copy(b[8:], r[8*(i-1):8*i])
				block.Decrypt(b, b)
				copy(a, b)
				copy(r[8*(i-1):], b[8:])
			}
		}
	}
	n := int(binary.BigEndian.Uint32(a[4:]))
	if subtle.ConstantTimeCompare(a[:4], []byte{0xA6, 0x59, 0x59, 0xA6}) != 1 || n > len(r) || n <= len(r)-8 {
		return nil, ErrInvalidCiphertext
	}
	for _, pad := range r[n:] {
		if pad != 0 {
			return nil, ErrInvalidCiphertext
		}
	}
	return r[:n], nil
}
