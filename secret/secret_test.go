package secret_test

import (
	"crypto/rand"
	"strings"
	"testing"

	"coffer/secret"
)

func TestFilters(t *testing.T) {
	s := &secret.Secret{
		Name: "prod/db", Description: "Main orders-database, EU", Tags: []secret.Tag{{Key: "Team", Value: "core platform"}},
	}
	for _, test := range []struct {
		key   string
		value string
		want  bool
	}{
		{"name", "prod", true}, {"name", "PROD", false}, {"name", "db", false}, {"name", "!prod", false},
		{"name", "!dev", true},
		{"description", "main", true}, {"description", "DATABASE ord", true}, {"description", "base", false},
		{"description", "!eu", false},
		{"tag-key", "Te", true}, {"tag-key", "te", false}, {"tag-value", "core p", true}, {"tag-value", "platform", false},
		{"all", "prod", true}, {"all", "plat", true}, {"all", "team db", true}, {"all", "none", false},
		{"primary-region", "us-east-1", false}, {"owning-service", "rds", false}, {"owning-service", "!rds", true},
	} {
		if got := secret.Match([]secret.Filter{{Key: test.key, Values: []string{test.value}}}, s,
			"us-east-1"); got != test.want {
			t.Errorf("%s %q: %v", test.key, test.value, got)
		}
	}
	if !secret.Match([]secret.Filter{{Key: "name", Values: []string{"dev", "prod"}}, {Key: "all", Values: []string{"eu"}}},
		s, "us-east-1") {
		t.Error("any of a filter's values may match, and every filter must")
	}
}

// TestPasswordsAreUniform draws many characters and wants each about as often as any other, and each required
// type in each password.
func TestPasswordsAreUniform(t *testing.T) {
	count := map[rune]int{}
	const passwords, length = 400, 500
	for range passwords {
		p, err := secret.PasswordOptions{Length: length, Space: true}.Password(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range p {
			count[c]++
		}
	}
	if len(count) != 95 {
		t.Errorf("%d different characters, want 95", len(count))
	}
	mean := float64(passwords*length) / 95
	chi := 0.0
	for _, n := range count {
		chi += (float64(n) - mean) * (float64(n) - mean) / mean
	}
	if chi > 180 { // chi-square with 94 degrees of freedom: above 180 less than once in 10^6
		t.Errorf("chi-square %.0f", chi)
	}
	for range 200 {
		p, err := secret.PasswordOptions{Length: 4}.Password(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		for _, class := range []string{"abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"} {
			if !strings.ContainsAny(p, class) {
				t.Errorf("%d characters without one of %s", len(p), class[:3])
			}
		}
	}
}

// FuzzParseID wants every id that is accepted to name only candidates that are valid names.
func FuzzParseID(f *testing.F) {
	for _, seed := range []string{
		"name", "arn:aws:secretsmanager:us-east-1:123456789012:secret:name-AbCdEf",
		"arn:aws:secretsmanager:us-east-1:123456789012:secret:", "arn:", "a b", "-", strings.Repeat("a", 520),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := secret.ParseID(s)
		if err != nil {
			return
		}
		tried := 0
		id.Candidates(func(name, suffix string) bool {
			tried++
			if !secret.ValidName(name) || suffix != "" && len(suffix) != secret.SuffixLen {
				t.Errorf("%q means %q with suffix %q", s, name, suffix)
			}
			if suffix != "" && secret.ARN(id.Region, id.Account, name, suffix) != s {
				t.Errorf("%q is not the ARN of %q with suffix %q", s, name, suffix)
			}
			return false
		})
		if tried > 2 {
			t.Errorf("%q has %d meanings", s, tried)
		}
	})
}
