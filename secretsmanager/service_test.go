package secretsmanager_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"coffer/internal/testregion"
	kmsservice "coffer/kms/service"
	"coffer/secret"
	sm "coffer/secretsmanager"
)

// region is a service in a region of its own.
type region struct {
	*sm.Service
	*testregion.Region
	t testing.TB
}

func newRegion(t testing.TB) *region {
	r := testregion.New(t)
	return &region{sm.New(r.Base), r, t}
}

func (r *region) create(name string) {
	r.t.Helper()
	if _, err := r.CreateSecret(r.Ctx(), &sm.CreateSecretInput{Name: &name}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *region) put(name, value string) string {
	r.t.Helper()
	in := &sm.PutSecretValueInput{SecretID: &name}
	token := uuid.NewString()
	in.ClientRequestToken, in.SecretString = &token, &value
	if _, err := r.PutSecretValue(r.Ctx(), in); err != nil {
		r.t.Fatal(err)
	}
	return token
}

func (r *region) exists(name string) bool {
	_, err := r.DescribeSecret(r.Ctx(), &sm.SecretIDInput{SecretID: &name})
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
			if _, err := r.DeleteSecret(r.Ctx(), in); err != nil {
				t.Fatal(err)
			}
		}
	}
	restored := "restored"
	if _, err := r.RestoreSecret(r.Ctx(), &sm.SecretIDInput{SecretID: &restored}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		after time.Duration
		want  string
	}{
		{7*24*time.Hour - time.Millisecond, "short long restored live"}, {time.Millisecond, "long restored live"},
		{23 * 24 * time.Hour, "restored live"},
	} {
		r.Clock = r.Clock.Add(step.after)
		if _, err := r.Purge(t.Context(), r.Clock); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"short", "long", "restored", "live"} {
			if got, want := r.exists(name), strings.Contains(step.want, name); got != want {
				t.Errorf("at %v: %s exists: %v", r.Clock, name, got)
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
		r.Clock = r.Clock.Add(10 * time.Minute)
		r.put("busy", fmt.Sprint(i))
	}
	name, yes := "busy", true
	count := 0
	in := &sm.ListSecretVersionIDsInput{SecretID: &name, IncludeDeprecated: &yes}
	for {
		out, err := r.ListSecretVersionIds(r.Ctx(), in)
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
	if _, err := r.GetSecretValue(r.Ctx(), &sm.GetSecretValueInput{
		SecretID: &name, VersionID: &first,
	}); !errors.Is(err, secret.ErrNoVersion(first)) {
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
				r.Clock = r.Clock.Add(time.Second)
				r.create(stays(i))
				r.create(stays(i) + "-goes")
			}
			size := int64(7)
			in := &sm.ListSecretsInput{MaxResults: &size, SortBy: &by, SortOrder: &order}
			seen := map[string]int{}
			for page := 0; ; page++ {
				out, err := r.ListSecrets(r.Ctx(), in)
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
				if _, err := r.DeleteSecret(r.Ctx(), &sm.DeleteSecretInput{
					SecretID: &goes, ForceDeleteWithoutRecovery: &force,
				}); err != nil {
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
	out, err := r.ListSecrets(r.Ctx(), &sm.ListSecretsInput{MaxResults: &one})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(out.NextToken)
	f.Add("")
	f.Add(strings.Repeat("A", 60))
	f.Fuzz(func(t *testing.T, token string) {
		_, err := r.ListSecrets(r.Ctx(), &sm.ListSecretsInput{MaxResults: &one, NextToken: &token})
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
	key, err := kmsservice.New(r.Region.Base).CreateKey(r.Ctx(), &kmsservice.CreateKeyInput{})
	do(err)
	for i, in := range []*sm.CreateSecretInput{
		{Name: text("plain")}, {Name: text("under/key"), KmsKeyID: &key.KeyMetadata.KeyID}, {Name: text("deleted")},
		{Name: text("untagged"), Tags: []sm.Tag{{Key: text("k")}}},
		{
			Name: text("full"), Description: text("\"words\" <&> ü\u2028\x00\\"),
			Tags: []sm.Tag{{Key: text("k\n"), Value: text("v\t")}, {Key: text("l")}},
		},
	} {
		r.Clock = r.Clock.Add(time.Duration(i) * 1001 * time.Millisecond)
		_, err := r.CreateSecret(r.Ctx(), in)
		do(err)
	}
	for _, label := range []string{"AWSCURRENT", "AWSPENDING", "z\"", "a\u2029"} {
		in := &sm.PutSecretValueInput{SecretID: text("full"), VersionStages: []string{label}}
		in.ClientRequestToken, in.SecretString = text(uuid.NewString()), text("v")
		_, err := r.PutSecretValue(r.Ctx(), in)
		do(err)
	}
	_, err = r.GetSecretValue(r.Ctx(), &sm.GetSecretValueInput{SecretID: text("full")})
	do(err)
	do(r.FlushAccess(r.Ctx()))
	_, err = r.UntagResource(r.Ctx(), &sm.UntagResourceInput{SecretID: text("untagged"), TagKeys: []string{"k"}})
	do(err)
	_, err = r.DeleteSecret(r.Ctx(), &sm.DeleteSecretInput{SecretID: text("deleted")})
	do(err)
	for _, max := range []int64{1, 3, 100} {
		out, err := r.ListSecrets(r.Ctx(), &sm.ListSecretsInput{MaxResults: &max, IncludePlannedDeletion: &all})
		do(err)
		want, err := json.Marshal(out)
		do(err)
		if max == 100 && !strings.Contains(string(want), `"KmsKeyId":"`+key.KeyMetadata.Arn) {
			t.Errorf("no key in %s", want)
		}
		if got := out.AppendJSON(nil); string(got) != string(want) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
