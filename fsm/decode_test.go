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
	id := make([]byte, fsm.IDLen)
	const moveLabel = 5
	for what, c := range map[string]struct {
		envelope any
		unknown  bool // says that a newer version may know it
	}{
		"no envelope":               {"garbage", false},
		"null":                      {nil, false},
		"a list":                    {[]any{id, moveLabel}, false},
		"a short id":                {map[int]any{1: id[:8], 2: moveLabel, 3: map[int]any{1: ref}, 4: 0}, false},
		"a body that is a list":     {map[int]any{1: id, 2: moveLabel, 3: []int{1, 2}, 4: 0}, false},
		"a body that is null":       {map[int]any{1: id, 2: moveLabel, 3: nil, 4: 0}, false},
		"a text for a number":       {map[int]any{1: id, 2: moveLabel, 3: map[int]any{1: ref, 2: "5"}, 4: 0}, false},
		"a kind of a newer version": {map[int]any{1: id, 2: 999, 3: map[int]any{}, 4: 0}, true},
		"a member of the envelope":  {map[int]any{1: id, 2: moveLabel, 3: map[int]any{1: ref}, 4: 0, 5: "new"}, true},
		"a member of the command":   {map[int]any{1: id, 2: moveLabel, 3: map[int]any{1: ref, 99: "new"}, 4: 0}, true},
		"a member inside of the member": {
			map[int]any{1: id, 2: moveLabel, 3: map[int]any{1: map[int]any{1: account, 9: 1}}, 4: 0}, true,
		},
	} {
		b, err := cbor.Marshal(c.envelope)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := fsm.Decode(b); err == nil || errors.Is(err, fsm.ErrUnknownCommand) != c.unknown {
			t.Errorf("%s: %v", what, err)
		}
	}
	good := fsm.Encode(named("id"), 3, &fsm.MoveLabel{Ref: refTo("a"), Label: "x"})
	if _, _, err := fsm.Decode(append(good, 0)); err == nil {
		t.Error("a byte behind a command is dropped")
	}
	if e, c, err := fsm.Decode(good); err != nil || e.Base != 3 || c.(*fsm.MoveLabel).Label != "x" {
		t.Errorf("%+v %+v %v", e, c, err)
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
		e, c, err := fsm.Decode(b)
		if err != nil {
			return
		}
		_ = fsm.Check(c)
		again, same, err := fsm.Decode(fsm.Encode(fsm.ID(e.ID), e.Base, c))
		if err != nil || again.Base != e.Base || !reflect.DeepEqual(normal(t, c), normal(t, same)) {
			t.Errorf("%x means %+v and then %+v (%v)", b, c, same, err)
		}
	})
}

// normal is a command's canonical form: empty and missing lists are the same.
func normal(t *testing.T, c fsm.Command) string {
	t.Helper()
	return string(fsm.Encode(fsm.ID{}, 0, c))
}
