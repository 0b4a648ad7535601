package kms

import (
	"regexp"
	"strings"

	"coffer/refusal"
)

// Alias is another name of a key. Times are milliseconds since 1970.
type Alias struct {
	Name    string `cbor:"1,keyasint"` // with alias/
	KeyID   string `cbor:"2,keyasint"`
	Created int64  `cbor:"3,keyasint"`
	Updated int64  `cbor:"4,keyasint"`
}

// AliasPrefix starts the name of every alias; reservedPrefix those of the service's own.
const (
	AliasPrefix    = "alias/"
	reservedPrefix = "alias/aws/"
)

var aliasPattern = regexp.MustCompile(`^alias/[a-zA-Z0-9/_-]+$`)

// CheckAlias refuses names that a user's alias can't have (API reference, CreateAlias).
func CheckAlias(name string) error {
	switch {
	case strings.HasPrefix(name, reservedPrefix):
		return refusal.Errorf(KindInvalidAlias, "Alias names that start with %s are reserved.", reservedPrefix)
	case !aliasPattern.MatchString(name):
		return refusal.Errorf(KindInvalidAlias,
			"Alias must start with the prefix \"alias/\", followed by letters, digits, and any of /_-.")
	}
	return nil
}

// AliasARN is the ARN of an alias.
func AliasARN(region, account, name string) string {
	return "arn:aws:kms:" + region + ":" + account + ":" + name
}
