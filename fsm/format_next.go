//go:build nextformat

package fsm

import (
	"reflect"

	"coffer/secret"
)

// This file is a format after the newest one, with what a format can bring: one more kind of command, and one more
// member of a command that there was. Only tests build it, to show that a region rolls up to a later format and, until
// the format is raised, back.

func init() {
	newestFormat = FirstFormat + 1
	register(nextKind, newestFormat, func() Command { return &NoteNext{} })
	register(tagSecretKind, FirstFormat, func() Command { return &TagSecretNext{} })
	hasFormats = typesWithFormats()
}

const (
	tagSecretKind = 9
	nextKind      = 60_000
)

// register adds a kind of command, or another type for one that there is.
func register(kind Kind, since uint64, make func() Command) {
	kinds[kind] = make
	kindSince[kind] = since
	kindOf[reflect.TypeOf(make())] = kind
}

// NoteNext is a command that the next format brings.
type NoteNext struct {
	Text string `cbor:"1,keyasint"`
}

var noteNextKey = []byte("note-next")

func (c *NoteNext) apply(w *writeTx) (Outcome, error) {
	w.put(tableCluster, noteNextKey, encode(c.Text))
	return Outcome{}, nil
}

// TagSecretNext is TagSecret with a member that the next format brings.
type TagSecretNext struct {
	TagSecret
	Mark string `cbor:"90,keyasint,omitempty" format:"2"`
}

func (c *TagSecretNext) apply(w *writeTx) (Outcome, error) {
	if c.Mark != "" {
		c.Tags = append(c.Tags, secret.Tag{Key: "mark", Value: c.Mark})
	}
	return c.TagSecret.apply(w)
}
