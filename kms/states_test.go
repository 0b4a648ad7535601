package kms_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"coffer/kms"
	"coffer/kms/rootkey"
	"coffer/refusal"
)

const arn = "arn:aws:kms:us-east-1:123456789012:key/k"

// operations are what can be done to a key, and what the key state table says of each in each state: "" succeeds.
// (AWS KMS developer guide, "Key states of AWS KMS keys"; the numbers are its footnotes.)
var operations = map[string]struct {
	do   func(kms.Change) error
	want map[kms.State]refusal.Kind
	// Refused before the state is looked at, by what the key is.
	external, own, mac refusal.Kind
}{
	"cryptographic operations": {
		do: func(c kms.Change) error { return c.Usable() },
		// 1, 5, 3
		want: map[kms.State]refusal.Kind{
			kms.Disabled: kms.KindDisabled, kms.PendingImport: kms.KindInvalidState, kms.PendingDeletion: kms.KindInvalidState,
		},
	},
	"EnableKey": {
		do: func(c kms.Change) error { return c.SetEnabled(true) },
		// 5, 3
		want: map[kms.State]refusal.Kind{kms.PendingImport: kms.KindInvalidState, kms.PendingDeletion: kms.KindInvalidState},
	},
	"DisableKey": {
		do: func(c kms.Change) error { return c.SetEnabled(false) },
		// 5, 3
		want: map[kms.State]refusal.Kind{kms.PendingImport: kms.KindInvalidState, kms.PendingDeletion: kms.KindInvalidState},
	},
	"ScheduleKeyDeletion": {
		do:   func(c kms.Change) error { return c.ScheduleDeletion(c.At + 1) },
		want: map[kms.State]refusal.Kind{kms.PendingDeletion: kms.KindInvalidState}, // 3
	},
	"CancelKeyDeletion": {
		do: func(c kms.Change) error { return c.CancelDeletion() },
		// 4
		want: map[kms.State]refusal.Kind{
			kms.Enabled: kms.KindInvalidState, kms.Disabled: kms.KindInvalidState, kms.PendingImport: kms.KindInvalidState,
		},
	},
	"UpdateKeyDescription": {
		do:   func(c kms.Change) error { return c.SetDescription("words") },
		want: map[kms.State]refusal.Kind{kms.PendingDeletion: kms.KindInvalidState}, // 3
	},
	"TagResource": {
		do:   func(c kms.Change) error { return c.Tag([]kms.Tag{{Key: "k", Value: "v"}}) },
		want: map[kms.State]refusal.Kind{kms.PendingDeletion: kms.KindInvalidState}, // 3
	},
	"UntagResource": {
		do:   func(c kms.Change) error { return c.Untag([]string{"k"}) },
		want: map[kms.State]refusal.Kind{kms.PendingDeletion: kms.KindInvalidState}, // 3
	},
	"PutKeyPolicy": {do: func(c kms.Change) error { return c.SetPolicy("{}") }},
	"EnableKeyRotation": {
		do: func(c kms.Change) error { return c.EnableRotation(365) },
		// 1, 3
		want: map[kms.State]refusal.Kind{kms.Disabled: kms.KindDisabled, kms.PendingDeletion: kms.KindInvalidState},
		// 6, 7
		external: kms.KindUnsupported, mac: kms.KindUnsupported,
	},
	"DisableKeyRotation": {
		do:       func(c kms.Change) error { return c.DisableRotation() },
		want:     map[kms.State]refusal.Kind{kms.Disabled: kms.KindDisabled, kms.PendingDeletion: kms.KindInvalidState},
		external: kms.KindUnsupported, mac: kms.KindUnsupported,
	},
	"RotateKeyOnDemand": {
		do:   func(c kms.Change) error { return c.Rotate(kms.Material{ID: "next", Wrapped: []byte{1}}, false) },
		want: map[kms.State]refusal.Kind{kms.Disabled: kms.KindDisabled, kms.PendingDeletion: kms.KindInvalidState},
		// With imported material it depends on what was imported: TestKMS shows it.
		external: "-", mac: kms.KindUnsupported,
	},
	"GetParametersForImport": {
		do:   func(c kms.Change) error { return c.Importable() },
		want: map[kms.State]refusal.Kind{kms.PendingDeletion: kms.KindInvalidState}, // 8
		own:  kms.KindUnsupported,                                                   // 9
	},
	"DeleteImportedKeyMaterial": {
		do:  func(c kms.Change) error { _, err := c.DeleteMaterial(""); return err },
		own: kms.KindUnsupported, // 9
	},
}

// TestKeyStates takes keys through random lives, and holds each operation in each state that they come to against
// the documented table. What is refused changes nothing.
func TestKeyStates(t *testing.T) {
	names := make([]string, 0, len(operations))
	for name := range operations {
		names = append(names, name)
	}
	seen := map[string]bool{}
	rapid.Check(t, func(t *rapid.T) {
		key := &kms.Key{
			ID: "k", Account: "123456789012", External: rapid.Bool().Draw(t, "external"), Created: 1,
			Spec: rapid.SampledFrom([]kms.Spec{kms.Symmetric, kms.Symmetric, kms.HMAC256}).Draw(t, "spec"),
		}
		if !key.External {
			key.Materials = []kms.Material{{ID: "first", Wrapped: []byte{1}}}
		}
		now := int64(1)
		for range 40 {
			now++
			if key.External && rapid.IntRange(0, 3).Draw(t, "import") == 0 {
				validTo := int64(rapid.IntRange(0, 1).Draw(t, "expires")) * (now + 2)
				_ = kms.Change{Key: key, ARN: arn, At: now}.Import(kms.Material{ID: "first", Wrapped: []byte{1}},
					kms.Import{ValidTo: validTo})
			}
			name := rapid.SampledFrom(names).Draw(t, "operation")
			op, state := operations[name], key.State(now)
			want := op.want[state]
			switch {
			case key.Spec != kms.Symmetric && op.mac != "":
				want = op.mac
			case key.External && op.external != "":
				want = op.external
			case !key.External && op.own != "":
				want = op.own
			}
			if want == "-" {
				continue
			}
			before := *key
			err := op.do(kms.Change{Key: key, ARN: arn, At: now})
			var refused *refusal.Error
			got := refusal.Kind("")
			if errors.As(err, &refused) {
				got = refused.Kind
			}
			if got != want {
				t.Fatalf("%s of a key that is %s (external %v, %s): got %q, want %q",
					name, state, key.External, key.Spec, got, want)
			}
			if err != nil && !reflect.DeepEqual(before, *key) {
				t.Fatalf("%s was refused and changed the key from %+v to %+v", name, before, *key)
			}
			seen[fmt.Sprint(name, state)] = true
		}
	})
	for _, state := range []kms.State{kms.Enabled, kms.Disabled, kms.PendingImport, kms.PendingDeletion} {
		for name, op := range operations {
			if !seen[fmt.Sprint(name, state)] && (state != kms.PendingImport || op.external != "-") {
				t.Errorf("%s was never tried on a key that is %s", name, state)
			}
		}
	}
}

// TestManagedKeysStay shows that nobody changes a managed key.
func TestManagedKeysStay(t *testing.T) {
	for name, op := range operations {
		key := &kms.Key{ID: "k", Managed: true, Spec: kms.Symmetric, Materials: []kms.Material{{Wrapped: []byte{1}}}}
		if err := op.do(kms.Change{Key: key, ARN: arn, At: 1}); err == nil && name != "cryptographic operations" {
			t.Errorf("%s of a managed key is allowed", name)
		}
	}
}

// TestScheduledRotation follows a key over years: it rotates when it is due, misses none of its dates, and not while
// disabled.
func TestScheduledRotation(t *testing.T) {
	const day = 24 * 60 * 60 * 1000
	key := &kms.Key{ID: "k", Spec: kms.Symmetric, Materials: []kms.Material{{ID: "0", Wrapped: []byte{1}}}}
	do := func(at int64) kms.Change { return kms.Change{Key: key, ARN: arn, At: at} }
	if err := do(0).EnableRotation(90); err != nil {
		t.Fatal(err)
	}
	rotate := func(at int64) {
		if key.RotationDue(at) {
			if err := do(at).Rotate(kms.Material{ID: fmt.Sprint(len(key.Materials)), Wrapped: []byte{1}}, true); err != nil {
				t.Fatal(err)
			}
		}
	}
	for at := int64(0); at <= 900*day; at += day / 2 {
		if at == 400*day {
			if err := do(at).SetEnabled(false); err != nil {
				t.Fatal(err)
			}
		}
		if at == 600*day { // the rotations of days 450 and 540 wait until here
			if err := do(at).SetEnabled(true); err != nil {
				t.Fatal(err)
			}
		}
		rotate(at)
	}
	var days []int64
	for _, m := range key.Materials[1:] {
		days = append(days, m.RotatedAt/day)
	}
	if got := fmt.Sprint(days); got != "[90 180 270 360 600 630 720 810 900]" {
		t.Errorf("it rotated on days %s", got)
	}
	if key.Current != len(key.Materials)-1 || !key.Materials[key.Current].Automatic {
		t.Error("the newest material is not the current one")
	}
}

// TestWrappedMaterialIsBound changes every byte of wrapped key material, and swaps it between keys and generations:
// none unwraps.
func TestWrappedMaterialIsBound(t *testing.T) {
	ctx := context.Background()
	root, err := rootkey.New(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	make2 := func() kms.Key {
		k, err := kms.NewKey(ctx, root, "123456789012", kms.Symmetric, 1, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		next, err := k.NewMaterial(ctx, root, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		k.Materials = append(k.Materials, next)
		return k
	}
	one, two := make2(), make2()
	opens := func(k kms.Key, generation uint32, wrapped []byte) bool {
		k.Materials = append([]kms.Material(nil), k.Materials...)
		k.Materials[generation].Wrapped = wrapped
		_, err := k.UnwrapMaterial(ctx, root, generation)
		return err == nil
	}
	right := one.Materials[0].Wrapped
	if !opens(one, 0, right) {
		t.Fatal("the right material does not unwrap")
	}
	for i := range right {
		b := bytes.Clone(right)
		b[i] ^= 1
		if opens(one, 0, b) {
			t.Errorf("it unwraps with byte %d changed", i)
		}
	}
	if opens(one, 1, right) || opens(two, 0, right) {
		t.Error("it unwraps as another generation's or another key's")
	}
	other := one
	other.Account = "210987654321"
	if opens(other, 0, right) {
		t.Error("it unwraps in another account")
	}
}

// TestContextsAreUnambiguous seals under one context and opens under others that read the same when their strings
// are put one behind the other.
func TestContextsAreUnambiguous(t *testing.T) {
	contexts := []kms.EncryptionContext{
		{}, {"": ""}, {"a": "bc"}, {"ab": "c"}, {"a": "b", "c": ""}, {"abc": ""}, {"": "abc"}, {"a": "", "bc": ""},
	}
	for i, bound := range contexts {
		sealed, err := kms.Seal(material, keyID, 0, bound, []byte("x"), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		for j, other := range contexts {
			if _, err := kms.Open(material, other, sealed); (err == nil) != (i == j) {
				t.Errorf("sealed under %v, opened under %v: %v", bound, other, err)
			}
		}
	}
	// Another region's secret has another ARN; a version moved between regions does not open.
	for _, moved := range []kms.EncryptionContext{
		kms.SecretContext("arn:aws:secretsmanager:eu-west-1:123456789012:secret:a-AbCdEf", "v1"),
		kms.SecretContext("arn:aws:secretsmanager:us-east-1:123456789012:secret:a-AbCdEg", "v1"),
		kms.SecretContext("arn:aws:secretsmanager:us-east-1:123456789012:secret:a-AbCdEf", "v2"),
	} {
		sealed, err := kms.Seal(material, uuid.New(), 0, bound, []byte("x"), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kms.Open(material, moved, sealed); err == nil {
			t.Errorf("it opens as %v", moved)
		}
	}
}

// TestMacs holds GenerateMac's computation against RFC 4231, test case 2.
func TestMacs(t *testing.T) {
	for spec, want := range map[kms.Spec]string{
		kms.HMAC224: "a30e01098bc6dbbf45690f3a7e9e6d0f8bbea2a39e6148008fd05e44",
		kms.HMAC256: "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
		kms.HMAC384: "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649",
		kms.HMAC512: "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554" +
			"9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
	} {
		if got := hex.EncodeToString(spec.Mac([]byte("Jefe"), []byte("what do ya want for nothing?"))); got != want {
			t.Errorf("%s: %s", spec, got)
		}
	}
}

// TestImportedMaterialUnwraps holds the AES key wrap of imported material against RFC 5649, section 6.
func TestImportedMaterialUnwraps(t *testing.T) {
	wrapping, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	kek, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &wrapping.PublicKey,
		unhex("5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for want, wrapped := range map[string]string{
		"c37b7e6492584340bed12207808941155068f738": "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a",
		"466f7250617369": "afbeb0f07dfbf5419200f2ccb50bb24f",
	} {
		got, err := kms.UnwrapImported(wrapping, "RSA_AES_KEY_WRAP_SHA_256", append(bytes.Clone(kek), unhex(wrapped)...))
		if err != nil || hex.EncodeToString(got) != want {
			t.Errorf("%s unwraps to %x: %v", wrapped, got, err)
		}
		for i := range unhex(wrapped) {
			b := unhex(wrapped)
			b[i] ^= 1
			if _, err := kms.UnwrapImported(wrapping, "RSA_AES_KEY_WRAP_SHA_256", append(bytes.Clone(kek), b...)); err == nil {
				t.Errorf("%s unwraps with byte %d changed", wrapped, i)
			}
		}
	}
}
