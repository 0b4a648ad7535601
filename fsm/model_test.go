package fsm_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/hashicorp/raft"

	"coffer/fsm"
	"coffer/kms"
	"coffer/secret"
)

const account = "123456789012"

func open(t testing.TB, dir string) *fsm.Store {
	t.Helper()
	s, err := fsm.Open(dir, fsm.Options{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// idOf is the id of a command that is proposed once.
func idOf(index uint64, place int) (id fsm.ID) {
	binary.BigEndian.PutUint64(id[:], index)
	id[8] = byte(place)
	return id
}

// named is an id with a name.
func named(name string) (id fsm.ID) {
	copy(id[:], name)
	return id
}

// apply applies commands as one log entry.
func apply(t testing.TB, s *fsm.Store, index uint64, commands ...fsm.Command) []fsm.Outcome {
	t.Helper()
	var batch [][]byte
	for i, c := range commands {
		batch = append(batch, fsm.Encode(idOf(index, i), index-1, c))
	}
	out := s.Apply(&raft.Log{Index: index, Term: 1, Type: raft.LogCommand, Data: fsm.EncodeEntry(batch)})
	got, ok := out.([]fsm.Outcome)
	if !ok {
		t.Fatalf("entry %d: %v", index, out)
	}
	return got
}

func initCommand() fsm.Command {
	return &fsm.InitCluster{
		Cluster: fsm.Cluster{ID: "c", Region: "us-east-1", Account: account, RootKeyID: "r", Created: 1, DefaultKeyID: "k"},
		Key: kms.Key{
			ID: "k", Account: account, Managed: true, Spec: kms.Symmetric, Created: 1,
			Materials: []kms.Material{{ID: "m", Wrapped: []byte{1}}},
		},
	}
}

// randomCommand makes a command over a few names, versions and labels, so that commands meet.
func randomCommand(r *rand.Rand, at int64) fsm.Command {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	ref := fsm.Ref{Account: account, Name: pick("a", "a/b", "ab", "c"), Suffix: pick("AAAAAA", "AAAAAA", "BBBBBB")}
	version := func() string { return fmt.Sprintf("version-%d", r.IntN(12)) }
	label := func() string { return pick(secret.Current, secret.Current, secret.Previous, secret.Pending, "x", "y") }
	fresh := func() *fsm.NewVersion {
		return &fsm.NewVersion{
			ID: version(), KeyID: "k", WrappedKey: []byte{1, 2}, Sealed: binary.BigEndian.AppendUint64(nil, uint64(at)),
		}
	}
	switch r.IntN(24) {
	case 0, 1:
		c := &fsm.CreateSecret{
			Ref: ref, At: at, Description: pick("", "words here"), Tags: []secret.Tag{{Key: pick("k", "l"), Value: "v"}},
		}
		if r.IntN(3) > 0 {
			c.Version = fresh()
		}
		return c
	case 2, 3, 4:
		c := &fsm.PutVersion{Ref: ref, At: at, Version: *fresh()}
		for range r.IntN(3) {
			c.Labels = append(c.Labels, label())
		}
		return c
	case 5:
		c := &fsm.UpdateSecret{Ref: ref, At: at}
		if r.IntN(2) == 0 {
			c.Version = fresh()
		}
		return c
	case 6:
		c := &fsm.MoveLabel{Ref: ref, At: at, Label: label()}
		if r.IntN(3) > 0 {
			c.From = version()
		}
		if r.IntN(3) > 0 {
			c.To = version()
		}
		return c
	case 7:
		return &fsm.ScheduleDeletion{Ref: ref, At: at, Due: at + int64(r.IntN(50))}
	case 8:
		return &fsm.CancelDeletion{Ref: ref, At: at}
	case 9:
		return &fsm.DeleteNow{Ref: ref}
	case 10:
		return &fsm.TagSecret{Ref: ref, At: at, Tags: []secret.Tag{{Key: pick("k", "l", "m"), Value: pick("v", "w")}}}
	case 11:
		return &fsm.SetPolicy{Ref: ref, At: at, Policy: pick("", "{}")}
	case 12:
		return &fsm.RecordAccess{Reads: []fsm.Access{{Ref: ref, Version: version(), Day: at / 10}}}
	}
	key := fsm.KeyRef{Account: account, ID: pick("k", "k1", "k2")}
	material := kms.Material{ID: fmt.Sprint(at), Wrapped: binary.BigEndian.AppendUint64(nil, uint64(at))}
	switch r.IntN(13) {
	case 0, 1:
		k := kms.Key{ID: pick("k1", "k2"), Account: account, Spec: kms.Symmetric, External: r.IntN(4) == 0, Created: at}
		if !k.External {
			k.Materials = []kms.Material{material}
		}
		return &fsm.CreateKey{Key: k, Root: pick("r", "r2")}
	case 2:
		return &fsm.EnableKey{Ref: key, At: at, Enabled: r.IntN(3) > 0}
	case 3:
		return &fsm.ScheduleKeyDeletion{Ref: key, At: at, Due: at + int64(r.IntN(20))}
	case 4:
		return &fsm.CancelKeyDeletion{Ref: key, At: at}
	case 5:
		return &fsm.RotateKey{Ref: key, At: at, Material: material, Generation: r.IntN(3), Root: pick("r", "r2")}
	case 6:
		return &fsm.ImportMaterial{
			Ref: key, At: at, Material: material, Import: kms.Import{ValidTo: int64(r.IntN(2)) * (at + 10)},
			Root: pick("r", "r2"),
		}
	case 7:
		return &fsm.EndKeys{At: at, Keys: []fsm.KeyRef{key}}
	case 8:
		return &fsm.SetAlias{Ref: key, At: at, Name: pick("alias/a", "alias/b"), New: r.IntN(2) == 0}
	case 9:
		return &fsm.DeleteAlias{Account: account, Name: pick("alias/a", "alias/b")}
	case 10:
		return &fsm.SetKeyRotation{Ref: key, At: at, Period: r.IntN(2) * 90}
	case 11:
		c := &fsm.UpdateSecret{Ref: ref, At: at, Key: &fsm.NewKey{KeyID: key.ID, Revision: uint64(1 + r.IntN(6))}}
		c.Key.Rewraps = []fsm.Rewrapped{{Version: version(), KeyID: key.ID, WrappedKey: []byte{9, byte(at)}}}
		return c
	}
	return &fsm.PurgeDue{At: at, Max: 1 + r.IntN(3)}
}

// values is every version's sealed content, by secret and version: what must never change.
func values(t testing.TB, s *fsm.Store) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := s.View(func(tx *fsm.Tx) error {
		tx.Secrets(fsm.List{Account: account, Order: fsm.ByName}, func(sec *secret.Secret) bool {
			versions := 0
			tx.Versions(sec, "", func(v *secret.Version) bool {
				versions++
				got[sec.Name+sec.Suffix+v.ID] = string(tx.Value(sec, v).Sealed)
				return true
			})
			if versions != sec.Versions {
				t.Errorf("%s counts %d versions and has %d", sec.Name, sec.Versions, versions)
			}
			if versions > 0 && !sec.HasValue() {
				t.Errorf("%s has versions and no AWSCURRENT", sec.Name)
			}
			for label, id := range sec.Labels.All() {
				if tx.Version(sec, id) == nil {
					t.Errorf("%s: label %s is on %s, which does not exist", sec.Name, label, id)
				}
			}
			return true
		})
		if tx.Key(account, "k") == nil {
			t.Error("the default key is gone")
		}
		tx.Aliases(account, "", func(a *kms.Alias) bool {
			if tx.Key(account, a.KeyID) == nil {
				t.Errorf("the alias %s is of the key %s, which does not exist", a.Name, a.KeyID)
			}
			return true
		})
		// Each index has each secret once.
		secrets := -1
		for _, order := range []fsm.Order{fsm.ByCreated, fsm.ByChanged, fsm.ByAccessed, fsm.ByName} {
			for _, down := range []bool{false, true} {
				seen := map[string]bool{}
				tx.Secrets(fsm.List{Account: account, Order: order, Descending: down}, func(sec *secret.Secret) bool {
					if seen[sec.Name] {
						t.Errorf("%s stands twice in order %d", sec.Name, order)
					}
					seen[sec.Name] = true
					return true
				})
				if secrets == -1 {
					secrets = len(seen)
				}
				if len(seen) != secrets {
					t.Errorf("order %d has %d secrets, others have %d", order, len(seen), secrets)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// runRandom applies random commands to two stores in batches of other sizes, with restarts, and checks what
// must always hold: versions never change, labels name versions that exist, counts are right, and both
// stores have the same digest, which is also that of the rows.
func runRandom(t testing.TB, seed uint64, steps int) {
	r := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	one, two := open(t, dir), open(t, t.TempDir())
	apply(t, one, 1, initCommand())
	apply(t, two, 1, initCommand())
	seen := map[string]string{}
	index := uint64(1)
	var waiting []*raft.Log
	for range steps {
		index++
		var batch [][]byte
		for i := range 1 + r.IntN(3) {
			batch = append(batch, fsm.Encode(idOf(index, i), index-1, randomCommand(r, int64(index))))
		}
		l := &raft.Log{Index: index, Term: 1, Type: raft.LogCommand, Data: fsm.EncodeEntry(batch)}
		one.Apply(l)
		if waiting = append(waiting, l); r.IntN(4) == 0 {
			two.ApplyBatch(waiting)
			waiting = nil
		}
		if r.IntN(20) == 0 {
			if err := one.Close(); err != nil {
				t.Fatal(err)
			}
			one = open(t, dir)
			if again, ok := one.Apply(l).([]fsm.Outcome); ok {
				t.Fatalf("entry %d was applied twice: %v", index, again)
			}
		}
		if r.IntN(5) == 0 {
			now := values(t, one)
			for id, value := range now {
				if old, ok := seen[id]; ok && old != value {
					// The secret may have been deleted and made anew, with the same suffix in this test: then the value is younger.
					if binary.BigEndian.Uint64([]byte(value)) < binary.BigEndian.Uint64([]byte(old)) {
						t.Fatalf("version %s went back", id)
					}
				}
			}
			seen = now
		}
	}
	if len(waiting) > 0 {
		two.ApplyBatch(waiting)
	}
	values(t, one)
	_, a := one.Digest()
	_, b := two.Digest()
	if a != b {
		t.Fatalf("seed %d: the same log made digests %x and %x", seed, a, b)
	}
	for _, s := range []*fsm.Store{one, two} {
		if _, err := s.Scrub(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRandomCommands(t *testing.T) {
	for seed := range uint64(30) {
		runRandom(t, seed, 120)
	}
}

func FuzzApply(f *testing.F) {
	f.Add(uint64(7), uint8(50))
	f.Fuzz(func(t *testing.T, seed uint64, steps uint8) { runRandom(t, seed, int(steps)) })
}

// FuzzDecodeEntry wants no entry to be taken that was not made whole.
func FuzzDecodeEntry(f *testing.F) {
	good := fsm.EncodeEntry([][]byte{
		fsm.Encode(named("id"), 0, initCommand()), fsm.Encode(named("id"), 0, &fsm.Checkpoint{}),
	})
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		commands, err := fsm.DecodeEntry(b)
		if err != nil && !errors.Is(err, fsm.ErrDamaged) && !errors.Is(err, fsm.ErrUnknownCommand) {
			t.Errorf("an unexpected error: %v", err)
		}
		for _, c := range commands {
			_, _ = fsm.Decode(c)
		}
		if err == nil && !bytes.Equal(fsm.EncodeEntry(commands), b) {
			t.Error("another entry was taken for the one of these commands")
		}
	})
}

// FuzzDecode wants decoding a command to end in a command or an error.
func FuzzDecode(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 30 {
		f.Add(fsm.Encode(named("id"), 0, randomCommand(r, int64(i))))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, err := fsm.Decode(b); err == nil && d.Command == nil {
			t.Error("neither a command nor an error")
		}
	})
}
