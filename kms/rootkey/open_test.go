package rootkey_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coffer/kms/rootkey"
)

// TestOpen names one root key in each way that needs no device or service: all give the same key.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	text := rootkey.Generate()
	for name, mode := range map[string]os.FileMode{"root-key": 0o600, "readable": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), text, mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	t.Setenv("A_ROOT_KEY", string(text))
	want, err := rootkey.File(filepath.Join(dir, "root-key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range []string{
		filepath.Join(dir, "root-key"), "file:" + filepath.Join(dir, "root-key"), "credential:root-key", "env:A_ROOT_KEY",
	} {
		if got, err := rootkey.Open(t.Context(), spec); err != nil || got.ID() != want.ID() {
			t.Errorf("%s: %v", spec, err)
		}
	}
	if _, err := rootkey.Open(t.Context(), "shamir"); !errors.Is(err, rootkey.ErrShares) {
		t.Errorf("shamir: %v", err)
	}
	for spec, says := range map[string]string{
		"env:NOT_THERE":                 "which is not set",
		"file:" + dir + "/readable":     "chmod 600",
		"credential:nothing":            "does not exist",
		"nowhere:x":                     "unknown scheme",
		"awskms:":                       "wants awskms:KEY",
		"awskms:k?endpiont=http://x":    "unknown option endpiont",
		"pkcs11:token=t?module-path=/m": "pkcs11",
	} {
		if _, err := rootkey.Open(t.Context(), spec); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", spec, err)
		} else if strings.Contains(err.Error(), strings.TrimSpace(string(text))) {
			t.Error("an error tells the key")
		}
	}
}
