package secret

import (
	"crypto/rand"
	"io"
	"math/big"
	"strings"

	"coffer/refusal"
)

// PasswordOptions are the parameters of GetRandomPassword. Length is 1 to 4096.
type PasswordOptions struct {
	Length                                             int
	Exclude                                            string
	NoNumbers, NoPunctuation, NoUppercase, NoLowercase bool
	Space                                              bool
	AnyTypes                                           bool // need not hold one of each included type
}

const (
	lowercase   = "abcdefghijklmnopqrstuvwxyz"
	uppercase   = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits      = "0123456789"
	punctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
)

// Password draws a password from random. Every password that the options allow is equally likely:
// with one of each type required, whole passwords are drawn again until one fits, save where that
// would take long (short passwords), where the types' places are drawn first.
func (o PasswordOptions) Password(random io.Reader) (string, error) {
	var classes []string
	all := ""
	for _, c := range []struct {
		off   bool
		chars string
	}{
		{o.NoLowercase, lowercase}, {o.NoUppercase, uppercase}, {o.NoNumbers, digits}, {o.NoPunctuation, punctuation},
		{!o.Space, " "},
	} {
		if c.off {
			continue
		}
		chars := strings.Map(func(r rune) rune {
			if strings.ContainsRune(o.Exclude, r) {
				return -1
			}
			return r
		}, c.chars)
		if chars == "" {
			continue
		}
		all += chars
		if c.chars != " " {
			classes = append(classes, chars)
		}
	}
	if all == "" {
		return "", refusal.Errorf(KindInvalidRequest,
			"The request excludes every character, so no password can be made. Exclude fewer.")
	}
	if o.AnyTypes {
		classes = nil
	}
	if len(classes) > o.Length {
		return "", refusal.Errorf(KindInvalidParameter,
			"A password of length %d can't hold one character of each of %d types. Ask for a longer one.",
			o.Length, len(classes))
	}
	for range 1000 {
		password, err := draw(random, all, o.Length)
		if err != nil {
			return "", err
		}
		if hasEach(password, classes) {
			return string(password), nil
		}
	}
	// One excluded to a few characters beside large types: place one of each, fill, shuffle.
	password, err := draw(random, all, o.Length)
	if err != nil {
		return "", err
	}
	for i, class := range classes {
		c, err := draw(random, class, 1)
		if err != nil {
			return "", err
		}
		password[i] = c[0]
	}
	for i := len(password) - 1; i > 0; i-- {
		j, err := rand.Int(random, big.NewInt(int64(i+1)))
		if err != nil {
			return "", err
		}
		password[i], password[j.Int64()] = password[j.Int64()], password[i]
	}
	return string(password), nil
}

func hasEach(password []byte, classes []string) bool {
	for _, class := range classes {
		if !strings.ContainsAny(string(password), class) {
			return false
		}
	}
	return true
}

// draw picks n characters of alphabet, each equally likely: bytes that would favour some are thrown away.
func draw(random io.Reader, alphabet string, n int) ([]byte, error) {
	limit := 256 - 256%len(alphabet)
	out := make([]byte, 0, n)
	buf := make([]byte, n+16)
	for len(out) < n {
		if _, err := io.ReadFull(random, buf); err != nil {
			return nil, err
		}
		for _, b := range buf {
			if int(b) < limit && len(out) < n {
				out = append(out, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return out, nil
}

// Suffix draws the six characters that end a new secret's ARN.
func Suffix(random io.Reader) (string, error) {
	b, err := draw(random, SuffixAlphabet, SuffixLen)
	return string(b), err
}
