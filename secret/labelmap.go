package secret

import (
	"encoding/binary"
	"iter"
)

// Labels says which version each staging label is on. It is the stored form itself: label and version in turn,
// sorted by label, each after its length (uvarint). Lists decode many of them, and this costs no more than a
// string. It never changes, so copies of a secret may share it.
type Labels string

// All yields each label with the version that it is on, sorted by label.
func (l Labels) All() iter.Seq2[string, string] {
	return func(yield func(label, version string) bool) {
		for len(l) > 0 {
			var label, version string
			label, l = l.next()
			version, l = l.next()
			if !yield(label, version) {
				return
			}
		}
	}
}

func (l Labels) next() (string, Labels) {
	var head [binary.MaxVarintLen64]byte
	n, used := binary.Uvarint(head[:copy(head[:], l)])
	if used <= 0 || n > uint64(len(l)-used) {
		return "", "" // not what appendLabel wrote
	}
	end := used + int(n)
	return string(l[used:end]), l[end:]
}

// On is the version that label is on, empty if it is on none.
func (l Labels) On(label string) string {
	for on, version := range l.All() {
		if on == label {
			return version
		}
	}
	return ""
}

// With is l with label on version, and nowhere else.
func (l Labels) With(label, version string) Labels {
	flat := make([]byte, 0, len(l)+len(label)+len(version)+4)
	placed := false
	for on, v := range l.All() {
		if !placed && on >= label {
			flat, placed = appendLabel(flat, label, version), true
		}
		if on != label {
			flat = appendLabel(flat, on, v)
		}
	}
	if !placed {
		flat = appendLabel(flat, label, version)
	}
	return Labels(flat)
}

// Without is l without label.
func (l Labels) Without(label string) Labels {
	var flat []byte
	for on, version := range l.All() {
		if on != label {
			flat = appendLabel(flat, on, version)
		}
	}
	return Labels(flat)
}

func appendLabel(flat []byte, label, version string) []byte {
	for _, s := range []string{label, version} {
		flat = append(binary.AppendUvarint(flat, uint64(len(s))), s...)
	}
	return flat
}
