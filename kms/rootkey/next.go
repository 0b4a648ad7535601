package rootkey

import (
	"path/filepath"
	"strings"
)

// Follows reports whether spec is own, or own with another number behind the key's name: root-key-2 follows root-key,
// and alias/root-3 follows alias/root-2. A node that has own in its configuration may be led to such a key by others.
// Anything else might be a key that somebody else holds: a file or variable that they know, a service of theirs, or
// a module that would be loaded into the process.
func Follows(own, spec string) bool { return stem(absolute(own)) == stem(spec) }

// stem is a key's name without its number, and all that is said about where it is.
func stem(spec string) string {
	scheme, rest := split(spec)
	name, where, _ := strings.Cut(rest, "?")
	return scheme + ":" + strings.TrimRight(name, "-._0123456789") + "?" + where
}

// absolute is the spec with a file's path made absolute: so do rotations name files.
func absolute(spec string) string {
	if scheme, rest := split(spec); scheme == "file" {
		if path, err := filepath.Abs(rest); err == nil {
			return "file:" + path
		}
	}
	return spec
}
