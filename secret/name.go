package secret

import "strings"

// MaxName is the longest name, in bytes (NameType of the service model).
const MaxName = 512

// SuffixLen is the number of random characters that end an ARN.
const SuffixLen = 6

// SuffixAlphabet is what those characters are drawn from.
const SuffixAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// ValidName reports whether name may name a secret: 1 to 512 ASCII letters, digits and -/_+=.@!
func ValidName(name string) bool {
	if name == "" || len(name) > MaxName {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if !alphanumeric(c) && strings.IndexByte("-/_+=.@!", c) < 0 {
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// ARN names a secret worldwide: arn:aws:secretsmanager:<region>:<account>:secret:<name>-<suffix>.
func ARN(region, account, name, suffix string) string {
	return "arn:aws:secretsmanager:" + region + ":" + account + ":secret:" + name + "-" + suffix
}

// ID is a parsed SecretId: a name, an ARN, or a partial ARN (one without its last hyphen and six
// characters). Which of the last two an ARN is depends on what exists, so an ID offers candidates.
type ID struct {
	Region, Account string // empty when the caller gave a name
	resource        string // the name, or what follows "secret:" in the ARN
}

// ParseID parses a SecretId. It fails with ErrInvalidName for anything that is not a well-formed name or ARN.
func ParseID(s string) (ID, error) {
	rest, ok := strings.CutPrefix(s, "arn:")
	if !ok {
		if !ValidName(s) {
			return ID{}, ErrInvalidName
		}
		return ID{resource: s}, nil
	}
	parts := strings.SplitN(rest, ":", 6)
	if len(parts) != 6 || parts[0] != "aws" || parts[1] != "secretsmanager" || parts[4] != "secret" ||
		!validRegion(parts[2]) || !ValidAccount(parts[3]) || !validResource(parts[5]) {
		return ID{}, ErrInvalidName
	}
	return ID{Region: parts[2], Account: parts[3], resource: parts[5]}, nil
}

// validResource allows a name of full length followed by a hyphen and the suffix.
func validResource(s string) bool {
	if len(s) > MaxName {
		return len(s) <= MaxName+1+SuffixLen && ValidName(s[:MaxName]) && ValidName(s[MaxName:])
	}
	return ValidName(s)
}

// ValidAccount reports whether s is a 12-digit account id.
func ValidAccount(s string) bool {
	if len(s) != 12 {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

func validRegion(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// ValidRegion reports whether s can name a region: letters and hyphens, then a number (RegionType of the service
// model).
func ValidRegion(s string) bool {
	i := strings.LastIndexByte(s, '-')
	if i < 1 || i == len(s)-1 || !validRegion(s) {
		return false
	}
	for _, c := range []byte(s[i+1:]) {
		if c < '0' || c > '9' {
			return false
		}
	}
	for _, part := range strings.Split(s[:i], "-") {
		if part == "" || strings.ContainsAny(part, "0123456789") {
			return false
		}
	}
	return true
}

// Candidates calls try with each secret that the ID may mean, best first, until try reports that it exists.
// A whole ARN is tried before a partial one, save that a secret whose exact name is the resource wins
// (AWS user guide, "Find a secret from a partial ARN"). suffix is empty when any will do.
func (id ID) Candidates(try func(name, suffix string) bool) {
	if len(id.resource) <= MaxName && try(id.resource, "") {
		return
	}
	if id.Region == "" {
		return
	}
	if cut := len(id.resource) - SuffixLen - 1; cut > 0 && id.resource[cut] == '-' {
		try(id.resource[:cut], id.resource[cut+1:])
	}
}
