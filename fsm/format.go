package fsm

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"coffer/refusal"
	"coffer/secret"
)

// A format is all that the nodes of a region must read alike: the kinds of commands and their members, rows, entries,
// snapshots. Its number is in the state. It is raised by [RaiseFormat], once every member can read the next one, and
// never lowered: until then a region can go back to the build that it came from, and from then on it can't.
//
// What a format adds says so: a kind of command in [kindSince], a member of a command by the tag `format:"N"`. Before
// the state has that format the leader proposes neither, and Apply carries neither out.

// FirstFormat is the format of the first release.
const FirstFormat = 1

// newestFormat is the newest format of this build. Builds for tests have a newer one (format_next.go).
var newestFormat uint64 = FirstFormat

// Formats are the oldest and the newest format that this build works with.
func Formats() FormatRange { return FormatRange{FirstFormat, newestFormat} }

// FormatRange is the formats that a build works with.
type FormatRange struct {
	Oldest uint64 `cbor:"1,keyasint" json:"oldest"`
	Newest uint64 `cbor:"2,keyasint" json:"newest"`
}

// Check returns an error that says what to do unless the build works with format.
func (r FormatRange) Check(format uint64) error {
	switch {
	case format > r.Newest:
		return fmt.Errorf("the state has format %d and this version of Coffer reads formats up to %d: install the version "+
			"that "+
			"the region's other nodes run", format, r.Newest)
	case format < r.Oldest:
		return fmt.Errorf("the state has format %d and this version of Coffer reads formats from %d on: install an "+
			"earlier version, "+
			"raise the format with it (`coffer cluster raise-format`), and come back", format, r.Oldest)
	}
	return nil
}

// kindSince is the format that brought a kind of command; kinds that are not in it are of the first.
var kindSince = map[Kind]uint64{}

// RaiseFormat makes To the format of the state. The leader of Term proposes it, after every member has told that it
// reads To; in a later term another leader may have taken a member in that does not.
type RaiseFormat struct {
	To   uint64 `cbor:"1,keyasint"`
	Term uint64 `cbor:"2,keyasint"`
}

func (c *RaiseFormat) apply(w *writeTx) (Outcome, error) {
	if c.To > newestFormat {
		return Outcome{}, fmt.Errorf("%w: it raises the format of the state to %d, this version reads formats up to %d",
			ErrUnknownCommand, c.To, newestFormat)
	}
	if w.term != c.Term {
		return Outcome{}, refusal.ErrConflict
	}
	cluster, _ := w.Cluster()
	if c.To > cluster.Format { // formats between are gone through at once: this build reads all of them
		cluster.Format = c.To
		w.put(tableCluster, clusterKey, encode(cluster))
	}
	return Outcome{}, nil
}

// ErrFormat refuses what needs a later format than the state has.
func ErrFormat(need, has uint64) error {
	return refusal.Errorf(secret.KindInvalidRequest,
		"This needs the format %d and the region's state has format %d: when every node runs a version of "+
			"Coffer that reads it, raise it with `coffer cluster raise-format`.", need, has)
}

// FormatOf is the lowest format that has all that c says.
func FormatOf(c Command) uint64 {
	t := reflect.TypeOf(c)
	need := max(FirstFormat, kindSince[kindOf[t]])
	if !hasFormats[t] {
		return need
	}
	return max(need, formatOfMembers(reflect.ValueOf(c).Elem()))
}

// hasFormats are the types of commands with members that a later format brought: others are not looked through.
var hasFormats = typesWithFormats()

func typesWithFormats() map[reflect.Type]bool {
	found := map[reflect.Type]bool{}
	for t := range kindOf {
		found[t] = typeHasFormats(t.Elem(), map[reflect.Type]bool{})
	}
	return found
}

func typeHasFormats(t reflect.Type, seen map[reflect.Type]bool) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return typeHasFormats(t.Elem(), seen)
	case reflect.Struct:
		if seen[t] {
			return false
		}
		seen[t] = true
		for f := range t.NumField() {
			if field := t.Field(f); field.Tag.Get("format") != "" || typeHasFormats(field.Type, seen) {
				return true
			}
		}
	}
	return false
}

// formatOfMembers is the highest format of the members that are set.
func formatOfMembers(v reflect.Value) (need uint64) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			return formatOfMembers(v.Elem())
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			need = max(need, formatOfMembers(v.Index(i)))
		}
	case reflect.Map:
		for each := v.MapRange(); each.Next(); {
			need = max(need, formatOfMembers(each.Value()))
		}
	case reflect.Struct:
		for f := range v.NumField() {
			if v.Field(f).IsZero() {
				continue
			}
			if since := v.Type().Field(f).Tag.Get("format"); since != "" {
				n, err := strconv.ParseUint(strings.TrimSpace(since), 10, 64)
				if err != nil {
					panic(fmt.Sprintf("the tag format of %s.%s is no number", v.Type(), v.Type().Field(f).Name))
				}
				need = max(need, n)
			}
			need = max(need, formatOfMembers(v.Field(f)))
		}
	}
	return need
}

// Format is the format of the state; 0 before the cluster is formed.
func (t *Tx) Format() uint64 {
	cluster, _ := t.Cluster()
	return cluster.Format
}
