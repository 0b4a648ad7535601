package secretsmanager_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/hashicorp/raft"

	"coffer/fsm"
	"coffer/iam"
	"coffer/kms"
	"coffer/kms/rootkey"
	"coffer/secret"
	sm "coffer/secretsmanager"
	"coffer/serving"
)

const account = "123456789012"

// region is a service over a store, without a cluster: commands are applied at once. Its clock stands still.
type region struct {
	*sm.Service
	t     testing.TB
	store *fsm.Store
	now   time.Time

	mu    sync.Mutex
	index uint64
}

func (r *region) Propose(_ context.Context, command []byte) (fsm.Outcome, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.index++
	out := r.store.Apply(&raft.Log{Index: r.index, Term: 1, Type: raft.LogCommand, Data: fsm.EncodeEntry([][]byte{command})})
	if err, failed := out.(error); failed {
		return fsm.Outcome{}, err
	}
	return out.([]fsm.Outcome)[0], nil
}

func (r *region) ReadBarrier(context.Context) error { return nil }
func (r *region) LastContact() time.Duration        { return 0 }

func newRegion(t testing.TB) *region {
	t.Helper()
	store, err := fsm.Open(t.TempDir(), fsm.Options{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	root, err := rootkey.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	r := &region{t: t, store: store, now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)}
	base := &serving.Base{Region: "us-east-1", Store: store, Cluster: r, Keyring: serving.NewKeyring(), Now: func() time.Time { return r.now }, Random: rand.Reader}
	base.Keyring.AddRoot(root)
	r.Service = sm.New(base)
	key, err := kms.NewKey(t.Context(), root, account, kms.Symmetric, 1, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Propose(t.Context(), fsm.Encode([]byte("init"), &fsm.InitCluster{Key: key, Cluster: fsm.Cluster{ID: "c", Region: "us-east-1", Account: account, DefaultKeyID: key.ID, RootKeyID: root.ID()}})); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *region) ctx() context.Context {
	return serving.WithCall(context.Background(), &serving.Call{Principal: iam.Root(account)})
}

func (r *region) create(name string) {
	r.t.Helper()
	if _, err := r.CreateSecret(r.ctx(), &sm.CreateSecretInput{Name: &name}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *region) put(name, value string) string {
	r.t.Helper()
	in := &sm.PutSecretValueInput{SecretID: &name}
	token := uuid.NewString()
	in.ClientRequestToken, in.SecretString = &token, &value
	if _, err := r.PutSecretValue(r.ctx(), in); err != nil {
		r.t.Fatal(err)
	}
	return token
}

func (r *region) exists(name string) bool {
	_, err := r.DescribeSecret(r.ctx(), &sm.SecretIDInput{SecretID: &name})
	return err == nil
}

// TestRecoveryWindowEnds shows that a secret is there until its window ends, and gone after it.
func TestRecoveryWindowEnds(t *testing.T) {
	r := newRegion(t)
	days := int64(7)
	for _, name := range []string{"short", "long", "restored", "live"} {
		r.create(name)
		r.put(name, "v")
		in := &sm.DeleteSecretInput{SecretID: &name}
		if name == "short" || name == "restored" {
			in.RecoveryWindowInDays = &days
		}
		if name != "live" {
			if _, err := r.DeleteSecret(r.ctx(), in); err != nil {
				t.Fatal(err)
			}
		}
	}
	restored := "restored"
	if _, err := r.RestoreSecret(r.ctx(), &sm.SecretIDInput{SecretID: &restored}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		after time.Duration
		want  string
	}{{7*24*time.Hour - time.Millisecond, "short long restored live"}, {time.Millisecond, "long restored live"}, {23 * 24 * time.Hour, "restored live"}} {
		r.now = r.now.Add(step.after)
		if _, err := r.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"short", "long", "restored", "live"} {
			if got, want := r.exists(name), strings.Contains(step.want, name); got != want {
				t.Errorf("at %v: %s exists: %v", r.now, name, got)
			}
		}
	}
	r.create("short") // the name is free again
}

// TestDeprecatedVersionsAreRemoved puts a version every ten minutes for three days: all of the last day are
// kept, and at least the 100 youngest, but not all.
func TestDeprecatedVersionsAreRemoved(t *testing.T) {
	r := newRegion(t)
	r.create("busy")
	first := r.put("busy", "0")
	const perDay = 144
	for i := range 3 * perDay {
		r.now = r.now.Add(10 * time.Minute)
		r.put("busy", fmt.Sprint(i))
	}
	name, yes := "busy", true
	count := 0
	in := &sm.ListSecretVersionIDsInput{SecretID: &name, IncludeDeprecated: &yes}
	for {
		out, err := r.ListSecretVersionIds(r.ctx(), in)
		if err != nil {
			t.Fatal(err)
		}
		count += len(out.Versions)
		if out.NextToken == "" {
			break
		}
		in.NextToken = &out.NextToken
	}
	if count < perDay+1 || count > perDay+2+100+6 {
		t.Errorf("%d versions are kept", count)
	}
	if _, err := r.GetSecretValue(r.ctx(), &sm.GetSecretValueInput{SecretID: &name, VersionID: &first}); !errors.Is(err, secret.ErrNoVersion(first)) {
		t.Errorf("the oldest version: %v", err)
	}
}

// TestPagesStayRightWhileSecretsComeAndGo lists in pages while secrets are made and deleted: each that is there
// all the time is listed once.
func TestPagesStayRightWhileSecretsComeAndGo(t *testing.T) {
	for _, by := range []string{"name", "created-date", "last-changed-date", "last-accessed-date"} {
		for _, order := range []string{"asc", "desc"} {
			r := newRegion(t)
			stays := func(i int) string { return fmt.Sprintf("page/%03d", i) }
			for i := range 50 {
				r.now = r.now.Add(time.Second)
				r.create(stays(i))
				r.create(stays(i) + "-goes")
			}
			size := int64(7)
			in := &sm.ListSecretsInput{MaxResults: &size, SortBy: &by, SortOrder: &order}
			seen := map[string]int{}
			for page := 0; ; page++ {
				out, err := r.ListSecrets(r.ctx(), in)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range out.SecretList {
					seen[e.Name]++
				}
				if out.NextToken == "" {
					break
				}
				in.NextToken = &out.NextToken
				goes, force := stays(page*3)+"-goes", true
				if _, err := r.DeleteSecret(r.ctx(), &sm.DeleteSecretInput{SecretID: &goes, ForceDeleteWithoutRecovery: &force}); err != nil {
					t.Fatal(err)
				}
				r.create(fmt.Sprintf("page/new%d", page))
			}
			for i := range 50 {
				if seen[stays(i)] != 1 {
					t.Errorf("by %s %s: %s was listed %d times", by, order, stays(i), seen[stays(i)])
				}
			}
		}
	}
}

// FuzzPageToken wants no token to be taken but the one that was given out.
func FuzzPageToken(f *testing.F) {
	r := newRegion(f)
	for i := range 5 {
		r.create(fmt.Sprint("secret", i))
	}
	one := int64(1)
	out, err := r.ListSecrets(r.ctx(), &sm.ListSecretsInput{MaxResults: &one})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(out.NextToken)
	f.Add("")
	f.Add(strings.Repeat("A", 60))
	f.Fuzz(func(t *testing.T, token string) {
		_, err := r.ListSecrets(r.ctx(), &sm.ListSecretsInput{MaxResults: &one, NextToken: &token})
		if err == nil && token != out.NextToken {
			t.Errorf("the token %q was taken", token)
		}
		if err != nil && token == out.NextToken {
			t.Error(err)
		}
	})
}

// TestListsEncodeAsDeclared holds the encoding that lists are given by hand against their declaration.
func TestListsEncodeAsDeclared(t *testing.T) {
	r := newRegion(t)
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	text, all := func(s string) *string { return &s }, true
	for i, in := range []*sm.CreateSecretInput{
		{Name: text("plain")}, {Name: text("deleted")}, {Name: text("untagged"), Tags: []sm.Tag{{Key: text("k")}}},
		{Name: text("full"), Description: text("\"words\" <&> ü\u2028\x00\\"), Tags: []sm.Tag{{Key: text("k\n"), Value: text("v\t")}, {Key: text("l")}}},
	} {
		r.now = r.now.Add(time.Duration(i) * 1001 * time.Millisecond)
		_, err := r.CreateSecret(r.ctx(), in)
		do(err)
	}
	for _, label := range []string{"AWSCURRENT", "AWSPENDING", "z\"", "a\u2029"} {
		in := &sm.PutSecretValueInput{SecretID: text("full"), VersionStages: []string{label}}
		in.ClientRequestToken, in.SecretString = text(uuid.NewString()), text("v")
		_, err := r.PutSecretValue(r.ctx(), in)
		do(err)
	}
	_, err := r.GetSecretValue(r.ctx(), &sm.GetSecretValueInput{SecretID: text("full")})
	do(err)
	do(r.FlushAccess(r.ctx()))
	_, err = r.UntagResource(r.ctx(), &sm.UntagResourceInput{SecretID: text("untagged"), TagKeys: []string{"k"}})
	do(err)
	_, err = r.DeleteSecret(r.ctx(), &sm.DeleteSecretInput{SecretID: text("deleted")})
	do(err)
	for _, max := range []int64{1, 3, 100} {
		out, err := r.ListSecrets(r.ctx(), &sm.ListSecretsInput{MaxResults: &max, IncludePlannedDeletion: &all})
		do(err)
		want, err := json.Marshal(out)
		do(err)
		if got := out.AppendJSON(nil); string(got) != string(want) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
