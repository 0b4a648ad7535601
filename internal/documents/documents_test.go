// Package documents_test holds what the documents say to what there is: a reader follows names, and names change.
package documents_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

var (
	link     = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	goFile   = regexp.MustCompile("`([a-z0-9_/]+\\.go)`")
	testName = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9]*)`")
	declared = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9]*)\(`)
)

// TestDocumentsNameWhatIs follows every link, file of code and test that a document names.
func TestDocumentsNameWhatIs(t *testing.T) {
	tests := map[string]bool{}
	var documents []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root:
			return filepath.SkipDir
		case strings.HasSuffix(path, ".md"):
			documents = append(documents, path)
		case strings.HasSuffix(path, "_test.go"):
			code, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, found := range declared.FindAllSubmatch(code, -1) {
				tests[string(found[1])] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range documents {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		for _, found := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), found[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", path, found[1])
			}
		}
		for _, found := range goFile.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(root, found[1])); err != nil && strings.Contains(found[1], "/") {
				t.Errorf("%s names %s, which is not there", path, found[1])
			}
		}
		for _, found := range testName.FindAllStringSubmatch(text, -1) {
			if !tests[found[1]] {
				t.Errorf("%s names the test %s, which is not there", path, found[1])
			}
		}
	}
}

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
