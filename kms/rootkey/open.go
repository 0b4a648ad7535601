package rootkey

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Schemes says how root keys are named in the configuration.
const Schemes = "a path or file:PATH, credential:NAME (systemd), env:VARIABLE, pkcs11:URI (RFC 7512), " +
	"awskms:KEY?endpoint=URL, or shamir"

// ErrShares says that the root key is one that people hold shares of: it is given with `coffer unseal`.
var ErrShares = errors.New("the root key has to be given in shares: run `coffer unseal`")

// A TransientError says that a root key could not be reached at the moment, and may be later.
type TransientError struct{ Err error }

func (e *TransientError) Error() string { return e.Err.Error() }

// Unwrap is the cause.
func (e *TransientError) Unwrap() error { return e.Err }

func split(spec string) (scheme, rest string) {
	scheme, rest, found := strings.Cut(spec, ":")
	switch {
	case spec == "shamir":
		return spec, ""
	case !found || strings.ContainsAny(scheme, `/\`):
		return "file", spec
	}
	return scheme, rest
}

// RelativeFile reports whether spec names a file by a path that is not absolute.
func RelativeFile(spec string) bool {
	scheme, rest := split(spec)
	return scheme == "file" && !filepath.IsAbs(rest)
}

// Open opens the root key that spec names (Schemes). It fails with ErrShares for one that people hold shares of, and
// with a TransientError where a device or service can't be reached.
func Open(ctx context.Context, spec string) (Provider, error) {
	scheme, rest := split(spec)
	switch scheme {
	case "file":
		return File(rest)
	case "credential": // systemd.exec(5), LoadCredential=
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return nil, fmt.Errorf("the root key is the systemd credential %s, but CREDENTIALS_DIRECTORY is not set: give "+
				"the unit LoadCredential=%s:…", rest, rest)
		}
		return File(filepath.Join(dir, filepath.Base(rest)))
	case "env":
		return fromEnvironment(rest)
	case "pkcs11":
		return openPKCS11(spec)
	case "awskms":
		return openAWSKMS(ctx, rest)
	case "shamir":
		return nil, ErrShares
	}
	return nil, fmt.Errorf("the root key %q has an unknown scheme: wanted %s", scheme+":…", Schemes)
}

func fromEnvironment(name string) (Provider, error) {
	text := os.Getenv(name)
	if text == "" {
		return nil, fmt.Errorf("the root key is in the variable %s, which is not set", name)
	}
	p, err := parse([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("the variable %s %w", name, err)
	}
	return p, nil
}
