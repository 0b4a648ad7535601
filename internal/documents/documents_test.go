// Package documents_test holds what the documents say to what there is: a reader follows names, and names change.
package documents_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.."

// TestDecisionsAreNumberedOnce keeps two decisions that were made at the same time apart.
func TestDecisionsAreNumberedOnce(t *testing.T) {
	files, err := filepath.Glob(root + "/docs/decisions/*.md")
	if err != nil || len(files) == 0 {
		t.Fatal("no decisions", err)
	}
	numbered := map[string]string{}
	for _, path := range files {
		name := filepath.Base(path)
		number, _, _ := strings.Cut(name, "-")
		if other := numbered[number]; other != "" {
			t.Errorf("%s and %s have the same number: give the later one the next that is free", other, name)
		}
		numbered[number] = name
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(b), "# "+number+": ") {
			t.Errorf("%s does not begin with its number", name)
		}
	}
}
