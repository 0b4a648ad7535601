package rootkey

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// Share is one of several parts of a root key (A. Shamir, "How to share a secret", 1979): any Threshold of them
// give the key, fewer tell nothing of it.
type Share struct {
	ID        string // of the root key
	Threshold int
	X         byte // not 0
	Y         []byte
}

const sharePrefix = "coffer-share-1"

// maxShares is how many shares of a key there can be: each has a value of X of its own.
const maxShares = 255

// ErrShare says that something is not a share as Split made it.
var ErrShare = errors.New("this is not a share of a root key, or it has a typing error")

// String is the share as people keep and type it.
func (s Share) String() string {
	text := fmt.Sprintf("%s:%s:%d:%d:%s", sharePrefix, s.ID, s.Threshold, s.X, base64.RawURLEncoding.EncodeToString(s.Y))
	return fmt.Sprintf("%s:%08x", text, crc32.ChecksumIEEE([]byte(text)))
}

// ParseShare reads what Share.String wrote. It fails with ErrShare.
func ParseShare(text string) (Share, error) {
	text = strings.TrimSpace(text)
	at := strings.LastIndexByte(text, ':')
	if at < 0 || text[at+1:] != fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(text[:at]))) {
		return Share{}, ErrShare
	}
	parts := strings.Split(text[:at], ":")
	if len(parts) != 5 || parts[0] != sharePrefix {
		return Share{}, ErrShare
	}
	id, err := hex.DecodeString(parts[1])
	threshold, err2 := strconv.Atoi(parts[2])
	x, err3 := strconv.ParseUint(parts[3], 10, 8)
	y, err4 := base64.RawURLEncoding.Strict().DecodeString(parts[4])
	if errors.Join(err, err2, err3, err4) != nil || len(id) != 16 || threshold < 1 || threshold > maxShares || x == 0 ||
		len(y) != keyLen {
		return Share{}, ErrShare
	}
	return Share{parts[1], threshold, byte(x), y}, nil
}

// Split draws a root key and splits it into shares, any threshold of which give it.
func Split(shares, threshold int) ([]Share, error) {
	if threshold < 2 || shares < threshold || shares > maxShares {
		return nil, fmt.Errorf("%d shares of which %d are needed: wanted at least 2 needed, and from that to %d shares",
			shares, threshold, maxShares)
	}
	key := make([]byte, keyLen)
	rand.Read(key) // never fails (crypto/rand)
	defer clear(key)
	provider, err := New(key)
	if err != nil {
		return nil, err
	}
	out := make([]Share, shares)
	for i := range out {
		out[i] = Share{provider.ID(), threshold, byte(i + 1), make([]byte, keyLen)}
	}
	coefficients := make([]byte, threshold)
	defer clear(coefficients)
	for at, b := range key {
		rand.Read(coefficients)
		coefficients[0] = b
		for i := range out {
			y := byte(0)
			for c := threshold - 1; c >= 0; c-- { // Horner's rule
				y = gfMul(y, out[i].X) ^ coefficients[c]
			}
			out[i].Y[at] = y
		}
	}
	return out, nil
}

// Combine makes a provider of a root key's shares. It fails unless they give the key that they name.
func Combine(shares []Share) (Provider, error) {
	if len(shares) == 0 || len(shares) < shares[0].Threshold {
		return nil, errors.New("more shares are needed")
	}
	key := make([]byte, keyLen)
	defer clear(key)
	for i, s := range shares {
		weight := byte(1) // of s in Lagrange's interpolation at 0
		for j, other := range shares {
			if i != j {
				if other.X == s.X || other.ID != s.ID || other.Threshold != s.Threshold {
					return nil, ErrShare
				}
				weight = gfMul(weight, gfMul(other.X, gfInverse(other.X^s.X)))
			}
		}
		for at := range key {
			key[at] ^= gfMul(s.Y[at], weight)
		}
	}
	provider, err := New(key)
	if err != nil || provider.ID() != shares[0].ID {
		return nil, ErrShare
	}
	return provider, nil
}

// gfMul multiplies in GF(2^8) modulo x^8+x^4+x^3+x+1, in time that depends on no value.
func gfMul(a, b byte) (product byte) {
	for range 8 {
		product ^= a & -(b & 1)
		b >>= 1
		a = a<<1 ^ 0x1b&-(a>>7)
	}
	return product
}

// gfInverse is a^254, which is 1/a.
func gfInverse(a byte) byte {
	square, inverse := a, byte(1)
	for range 7 {
		square = gfMul(square, square)
		inverse = gfMul(inverse, square)
	}
	return inverse
}
