package service_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"coffer/fsm"
	"coffer/internal/testregion"
	"coffer/kms"
	"coffer/kms/service"
	"coffer/refusal"
	sm "coffer/secretsmanager"
	"coffer/serving"
)

func ptr[T any](v T) *T { return &v }

// must is for calls that have to succeed: must(f())(t).
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

const day = 24 * time.Hour

// holds reports whether a snapshot of the region, made now, has the bytes.
func holds(t *testing.T, r *testregion.Region, wanted []byte) bool {
	t.Helper()
	var snapshot bytes.Buffer
	if err := r.Store.Save(&snapshot); err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(snapshot.Bytes(), wanted)
}

// TestKeyIsErasedAtTheEndOfItsWaitingPeriod follows a key through its waiting period: until its last moment the
// deletion can be cancelled; then the key, its aliases and its material are gone, from snapshots too, and a secret
// under it can't be read.
func TestKeyIsErasedAtTheEndOfItsWaitingPeriod(t *testing.T) {
	r := testregion.New(t)
	s, secrets := service.New(r.Base), sm.New(r.Base)
	id := must(s.CreateKey(r.Ctx(), &service.CreateKeyInput{}))(t).KeyMetadata.KeyID
	must(s.CreateAlias(r.Ctx(), &service.AliasInput{AliasName: ptr("alias/mine"), TargetKeyID: &id}))(t)
	in := &sm.CreateSecretInput{Name: ptr("s"), KmsKeyID: ptr("alias/mine")}
	in.SecretString, in.ClientRequestToken = ptr("v"), ptr("00000000-0000-0000-0000-000000000000")
	must(secrets.CreateSecret(r.Ctx(), in))(t)
	var wrapped []byte
	if err := r.Store.View(func(tx *fsm.Tx) error {
		wrapped = bytes.Clone(tx.Key(testregion.Account, id).Materials[0].Wrapped)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	must(s.ScheduleKeyDeletion(r.Ctx(), &service.ScheduleKeyDeletionInput{
		KeyID: &id, PendingWindowInDays: ptr(int64(7)),
	}))(t)
	r.Clock = r.Clock.Add(7*day - time.Millisecond)
	if n := must(s.Advance(t.Context(), r.Clock))(t); n != 0 || !holds(t, r, wrapped) {
		t.Fatalf("a millisecond before the end %d keys were deleted", n)
	}
	r.Clock = r.Clock.Add(time.Millisecond)
	if n := must(s.Advance(t.Context(), r.Clock))(t); n != 1 {
		t.Fatalf("at the end %d keys were deleted", n)
	}
	for _, name := range []string{id, "alias/mine"} {
		if _, err := s.DescribeKey(r.Ctx(), &service.DescribeKeyInput{
			KeyID: &name,
		}); !errors.Is(err, &refusal.Error{Kind: kms.KindNotFound}) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if holds(t, r, wrapped) {
		t.Error("a snapshot made after the deletion holds the key's material")
	}
	if err := r.Keyring.Forget(r.Store); err != nil {
		t.Fatal(err)
	}
	if _, err := secrets.GetSecretValue(r.Ctx(), &sm.GetSecretValueInput{SecretID: ptr("s")}); err == nil {
		t.Error("a secret under a key that is gone can be read")
	}
}

// TestScheduledRotationByTheLeader moves the clock over a key's rotations: each makes new material the current one,
// and all ciphertexts of before decrypt.
func TestScheduledRotationByTheLeader(t *testing.T) {
	r := testregion.New(t)
	s, secrets := service.New(r.Base), sm.New(r.Base)
	in := &sm.CreateSecretInput{Name: ptr("s")}
	in.SecretString, in.ClientRequestToken = ptr("v"), ptr("00000000-0000-0000-0000-000000000000")
	must(secrets.CreateSecret(r.Ctx(), in))(t)
	id := must(s.CreateKey(r.Ctx(), &service.CreateKeyInput{}))(t).KeyMetadata.KeyID
	must(s.EnableKeyRotation(r.Ctx(), &service.EnableKeyRotationInput{KeyID: &id}))(t)
	var sealed [][]byte
	materials := map[string]bool{}
	for range 4 {
		out := must(s.Encrypt(r.Ctx(), &service.EncryptInput{KeyID: &id, Plaintext: ptr([]byte("x"))}))(t)
		sealed = append(sealed, out.CiphertextBlob)
		for _, c := range sealed {
			opened := must(s.Decrypt(r.Ctx(), &service.DecryptInput{CiphertextBlob: &c}))(t)
			if string(opened.Plaintext) != "x" {
				t.Fatal("it decrypts to something else")
			}
			materials[opened.KeyMaterialID] = true
		}
		if n := must(s.Advance(t.Context(), r.Clock))(t); n != 0 {
			t.Fatalf("%d keys rotated before their time", n)
		}
		r.Clock = r.Clock.Add(365 * day)
		if n := must(s.Advance(t.Context(), r.Clock))(t); n != 2 { // it, and the default key
			t.Fatalf("%d keys rotated in time", n)
		}
	}
	if len(materials) != 4 {
		t.Errorf("ciphertexts of 4 years are of %d materials", len(materials))
	}
	fresh := sm.New(testregion.WithRoot(r, r.Root)) // has no data key in memory
	if got := must(fresh.GetSecretValue(r.Ctx(),
		&sm.GetSecretValueInput{SecretID: ptr("s")}))(t); got.SecretString != "v" {
		t.Errorf("under the rotated default key the secret is %q", got.SecretString)
	}
	list := must(s.ListKeyRotations(r.Ctx(), &service.ListKeyRotationsInput{KeyID: &id}))(t)
	if len(list.Rotations) != 4 || list.Rotations[0].RotationType != "AUTOMATIC" {
		t.Errorf("rotations %+v", list.Rotations)
	}
}

// TestRootRotationKeepsEverything rotates the root key over keys with several generations and deleted material, and
// refuses what was wrapped under the old one meanwhile.
func TestRootRotationKeepsEverything(t *testing.T) {
	r := testregion.New(t)
	s := service.New(r.Base)
	id := must(s.CreateKey(r.Ctx(), &service.CreateKeyInput{}))(t).KeyMetadata.KeyID
	sealed := must(s.Encrypt(r.Ctx(), &service.EncryptInput{KeyID: &id, Plaintext: ptr([]byte("x"))}))(t).CiphertextBlob
	must(s.RotateKeyOnDemand(r.Ctx(), &service.KeyInput{KeyID: &id}))(t)
	must(s.CreateKey(r.Ctx(), &service.CreateKeyInput{Origin: ptr("EXTERNAL")}))(t)
	old := must(kms.NewKey(t.Context(), r.Root, testregion.Account, kms.Symmetric, 1, r.Random))(t)

	next := testregion.New(t).Root // the same key: nothing to rotate to
	if _, err := s.RotateRoot(t.Context(), next, "file:next"); err == nil {
		t.Error("a rotation to the same root key is taken")
	}
	next = testregion.OtherRoot(t)
	r.Keyring.AddRoot(next)
	if n := must(s.RotateRoot(t.Context(), next, "file:next"))(t); n != 3 {
		t.Errorf("%d keys were rewrapped", n)
	}
	if out, err := s.Propose(t.Context(), &fsm.CreateKey{Key: old, Root: r.Root.ID()}); err != nil ||
		!errors.Is(out.Err(), refusal.ErrConflict) {
		t.Errorf("a key wrapped under the old root key: %v, %v", out.Err(), err)
	}
	only := testregion.WithRoot(r, next)
	opened := must(service.New(only).Decrypt(r.Ctx(), &service.DecryptInput{CiphertextBlob: &sealed}))(t)
	if string(opened.Plaintext) != "x" {
		t.Error("under the new root key it decrypts to something else")
	}
}

// TestImportedMaterialExpires imports material that expires: then the key can't be used, at once, and the leader
// erases the material. An import token ends after 24 hours.
func TestImportedMaterialExpires(t *testing.T) {
	r := testregion.New(t)
	s := service.New(r.Base)
	id := must(s.CreateKey(r.Ctx(), &service.CreateKeyInput{Origin: ptr("EXTERNAL")}))(t).KeyMetadata.KeyID
	p := must(s.GetParametersForImport(r.Ctx(), &service.GetParametersForImportInput{
		KeyID: &id, WrappingAlgorithm: ptr("RSAES_OAEP_SHA_256"), WrappingKeySpec: ptr("RSA_2048"),
	}))(t)
	public, err := x509.ParsePKIXPublicKey(p.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	encrypted, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), bytes.Repeat([]byte{7}, 32), nil)
	if err != nil {
		t.Fatal(err)
	}
	in := &service.ImportKeyMaterialInput{
		KeyID: &id, ImportToken: &p.ImportToken, EncryptedKeyMaterial: &encrypted,
		ValidTo: ptr(serving.Time(r.Clock.Add(day).UnixMilli())),
	}
	must(s.ImportKeyMaterial(r.Ctx(), in))(t)
	encrypt := func() error {
		_, err := s.Encrypt(r.Ctx(), &service.EncryptInput{KeyID: &id, Plaintext: ptr([]byte("x"))})
		return err
	}
	var wrapped []byte
	if err := r.Store.View(func(tx *fsm.Tx) error {
		wrapped = bytes.Clone(tx.Key(testregion.Account, id).Materials[0].Wrapped)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	r.Clock = r.Clock.Add(day - time.Millisecond)
	if err := encrypt(); err != nil {
		t.Errorf("before it expires: %v", err)
	}
	r.Clock = r.Clock.Add(time.Millisecond)
	if err := encrypt(); !errors.Is(err, &refusal.Error{Kind: kms.KindInvalidState}) {
		t.Errorf("when it has expired: %v", err)
	}
	if n := must(s.Advance(t.Context(), r.Clock))(t); n != 1 || holds(t, r, wrapped) {
		t.Errorf("%d keys were changed, and a snapshot holds the expired material: %v", n, holds(t, r, wrapped))
	}
	in.ValidTo = ptr(serving.Time(r.Clock.Add(day).UnixMilli()))
	if _, err := s.ImportKeyMaterial(r.Ctx(), in); !errors.Is(err, &refusal.Error{Kind: kms.KindExpiredImportToken}) {
		t.Errorf("an import after 24 hours: %v", err)
	}
}
