package rootkey_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coffer/kms/rootkey"
)

func TestFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "root-key")
	if _, err := rootkey.File(path); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("missing: %v", err)
	}
	if err := os.WriteFile(path, rootkey.Generate(), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := rootkey.File(path); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Errorf("readable by others: %v", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := rootkey.File(path)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := root.Wrap(context.Background(), []byte("m"), []byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := root.Unwrap(context.Background(), wrapped, []byte("a")); err != nil || string(m) != "m" {
		t.Error(err)
	}
	if _, err := root.Unwrap(context.Background(), wrapped, []byte("b")); err == nil {
		t.Error("unwrapped with other additional data")
	}
	for _, bad := range []string{"", "short", "c2hvcnQ="} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := rootkey.File(path); err == nil || strings.Contains(err.Error(), "c2hvcnQ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
