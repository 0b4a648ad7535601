package fsm_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"coffer/fsm"
	"coffer/kms"
	"coffer/secret"
)

// TestDecodingIsStrict shows that what a node does not know is never dropped: a command of another shape, kind, or with
// members of a newer version is refused.
func TestDecodingIsStrict(t *testing.T) {
	ref := map[int]any{1: account, 2: "a", 3: "AAAAAA"}
	const id, moveLabel = "0123456789abcdef", "\x05"
	body := func(v any) string {
		b, err := cbor.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for what, c := range map[string]struct {
		command string
		unknown bool // says that a newer version may know it
	}{
		"nothing":                    {"", false},
		"a short id":                 {id[:8], false},
		"an id alone":                {id, false},
		"a base that does not end":   {id + "\x80", false},
		"a base that is longer":      {id + "\x80\x00" + moveLabel + body(map[int]any{1: ref}), false},
		"a base beyond all numbers":  {id + strings.Repeat("\xff", 10) + "\x01", false},
		"no kind":                    {id + "\x03", false},
		"no body":                    {id + "\x03" + moveLabel, false},
		"a body that is a list":      {id + "\x03" + moveLabel + body([]int{1, 2}), false},
		"a body that is null":        {id + "\x03" + moveLabel + body(nil), false},
		"a text for a number":        {id + "\x03" + moveLabel + body(map[int]any{1: ref, 2: "5"}), false},
		"a kind of a newer version":  {id + "\x03\xe7\x07" + body(map[int]any{}), true},
		"a kind beyond all kinds":    {id + "\x03\x85\x80\x04" + body(map[int]any{1: ref}), true},
		"a member of a new command":  {id + "\x03" + moveLabel + body(map[int]any{1: ref, 99: "new"}), true},
		"a member inside the member": {id + "\x03" + moveLabel + body(map[int]any{1: map[int]any{1: account, 9: 1}}), true},
	} {
		if _, err := fsm.Decode([]byte(c.command)); err == nil || errors.Is(err, fsm.ErrUnknownCommand) != c.unknown {
			t.Errorf("%s: %v", what, err)
		}
	}
	good := fsm.Encode(named("id"), 3, &fsm.MoveLabel{Ref: refTo("a"), Label: "x"})
	if _, err := fsm.Decode(append(good, 0)); err == nil {
		t.Error("a byte behind a command is dropped")
	}
	if d, err := fsm.Decode(good); err != nil || d.Base != 3 || d.Command.(*fsm.MoveLabel).Label != "x" {
		t.Errorf("%+v %v", d, err)
	}
}

// TestCheckRefuses commands whose rows could not be stored, or not be read again.
func TestCheckRefuses(t *testing.T) {
	version := func(change func(*fsm.NewVersion)) fsm.Command {
		v := fsm.NewVersion{ID: "v", KeyID: "k", WrappedKey: []byte{1}, Sealed: make([]byte, secret.MaxValue+28)}
		change(&v)
		return &fsm.PutVersion{Ref: refTo("a"), At: 1, Version: v}
	}
	good := []fsm.Command{
		initCommand(), &fsm.Checkpoint{}, &fsm.EndKeys{}, version(func(*fsm.NewVersion) {}),
		&fsm.RecordAccess{Reads: []fsm.Access{{Ref: refTo(secret.DisplacedKey("0123")), Version: "v"}}},
		&fsm.SetKeyPolicy{Ref: fsm.KeyRef{Account: account, ID: "k"}, Policy: strings.Repeat("😀", 32768)},
	}
	for _, c := range good {
		if err := fsm.Check(c); err != nil {
			t.Errorf("%T: %v", c, err)
		}
	}
	for what, c := range map[string]fsm.Command{
		"nothing":    &fsm.CreateSecret{},
		"an account": &fsm.TagSecret{Ref: fsm.Ref{Account: "1", Name: "a", Suffix: "AAAAAA"}},
		"a name": &fsm.TagSecret{
			Ref: fsm.Ref{Account: account, Name: strings.Repeat("a", 513), Suffix: "AAAAAA"},
		},
		"a name with zeros": &fsm.TagSecret{Ref: fsm.Ref{Account: account, Name: "a\x00b", Suffix: "AAAAAA"}},
		"an empty version":  version(func(v *fsm.NewVersion) { v.ID = "" }),
		"a value":           version(func(v *fsm.NewVersion) { v.Sealed = make([]byte, 1<<20) }),
		"a long version":    version(func(v *fsm.NewVersion) { v.ID = strings.Repeat("v", 1<<16) }),
		"a link":            &fsm.AddLinks{Ref: refTo("a"), Links: []secret.NewLink{{ID: "l"}}},
		"a policy":          &fsm.SetPolicy{Ref: refTo("a"), Policy: strings.Repeat("p", 1<<20)},
		"a tag":             &fsm.TagSecret{Ref: refTo("a"), Tags: []secret.Tag{{Key: strings.Repeat("t", 1<<20)}}},
		"many tags":         &fsm.TagSecret{Ref: refTo("a"), Tags: make([]secret.Tag, 51)},
		"a long label": &fsm.PutVersion{
			Ref: refTo("a"), Version: fsm.NewVersion{ID: "v"}, Labels: []string{strings.Repeat("l", 1025)},
		},
		"many links": &fsm.AddLinks{
			Ref: refTo("a"), Links: slices.Repeat([]secret.NewLink{{ID: "l", Region: "r"}}, 257),
		},
		"a large public key": &fsm.SetPeer{Region: "r", Public: make([]byte, 1<<13)},
		"a large wrapped key": &fsm.CreateKey{
			Key: kms.Key{ID: "k", Account: account, Materials: []kms.Material{{Wrapped: make([]byte, 1<<13)}}},
		},
		"a region":            &fsm.SetPeer{},
		"a sender":            &fsm.Receive{From: fsm.Sender{Region: "a\x00b"}, Ref: refTo("a"), Link: "l", Displace: "d"},
		"a key":               &fsm.CreateKey{Key: kms.Key{Account: account}},
		"a key that is named": &fsm.EnableKey{Ref: fsm.KeyRef{Account: account}},
		"many of something":   &fsm.RemoveLinks{Ref: refTo("a"), Regions: make([]string, 1<<20)},
	} {
		if fsm.Check(c) == nil {
			t.Errorf("%s: it can be proposed", what)
		}
	}
}

// FuzzPropose wants what the leader would put into the log to be a command that means the same when it is encoded
// again.
func FuzzPropose(f *testing.F) {
	for _, c := range []fsm.Command{initCommand(), tag("a", "v"), &fsm.BeginEpoch{At: 1}, &fsm.Receive{Ref: refTo("a")}} {
		f.Add(fsm.Encode(named("id"), 7, c))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := fsm.Decode(b)
		if err != nil {
			return
		}
		_ = fsm.Check(d.Command)
		again, err := fsm.Decode(fsm.Encode(d.ID, d.Base, d.Command))
		if err != nil || again.Base != d.Base || again.ID != d.ID ||
			!reflect.DeepEqual(normal(t, d.Command), normal(t, again.Command)) {
			t.Errorf("%x means %+v and then %+v (%v)", b, d, again, err)
		}
	})
}

// normal is a command's canonical form: empty and missing lists are the same.
func normal(t *testing.T, c fsm.Command) string {
	t.Helper()
	return string(fsm.Encode(fsm.ID{}, 0, c))
}
