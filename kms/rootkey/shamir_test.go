package rootkey_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"coffer/kms/rootkey"
)

// TestAnyThresholdOfSharesGivesTheKey takes random sets of shares: enough of them give one and the same key, which
// opens what another set's key wrapped; fewer, or altered ones, give none.
func TestAnyThresholdOfSharesGivesTheKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		threshold := rapid.IntRange(2, 6).Draw(t, "threshold")
		all, err := rootkey.Split(rapid.IntRange(threshold, 9).Draw(t, "shares"), threshold)
		if err != nil {
			t.Fatal(err)
		}
		pick := func(n int) []rootkey.Share {
			picked := make([]rootkey.Share, n)
			for i, at := range rand.Perm(len(all))[:n] {
				if picked[i], err = rootkey.ParseShare(all[at].String()); err != nil {
					t.Fatal(err)
				}
			}
			return picked
		}
		one, err := rootkey.Combine(pick(threshold))
		if err != nil {
			t.Fatal(err)
		}
		two, err := rootkey.Combine(pick(rapid.IntRange(threshold, len(all)).Draw(t, "more")))
		if err != nil || one.ID() != two.ID() {
			t.Fatalf("another set of shares gives another key: %v", err)
		}
		wrapped, err := one.Wrap(t.Context(), []byte("material"), []byte("binding"))
		if err != nil {
			t.Fatal(err)
		}
		if raw, err := two.Unwrap(t.Context(), wrapped, []byte("binding")); err != nil || string(raw) != "material" {
			t.Fatalf("it opens to %q: %v", raw, err)
		}
		if _, err := rootkey.Combine(pick(threshold - 1)); err == nil {
			t.Fatal("too few shares gave a key")
		}
		altered := pick(threshold)
		altered[0].Y = bytes.Clone(altered[0].Y)
		altered[0].Y[5] ^= 1
		if _, err := rootkey.Combine(altered); err == nil {
			t.Fatal("an altered share gave a key")
		}
		altered = pick(threshold)
		altered[1] = altered[0]
		if _, err := rootkey.Combine(altered); err == nil {
			t.Fatal("the same share twice gave a key")
		}
	})
}

// TestFewerSharesTellNothing shows that one share alone is compatible with every value of the key's bytes: over
// many splits its bytes are uniform.
func TestFewerSharesTellNothing(t *testing.T) {
	var seen [256]int
	for range 400 {
		shares, err := rootkey.Split(3, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range shares[0].Y {
			seen[b]++
		}
	}
	chi := 0.0
	for _, n := range seen {
		expected := 400.0 * 32 / 256
		chi += (float64(n) - expected) * (float64(n) - expected) / expected
	}
	if chi > 400 { // 255 degrees of freedom: p < 1e-8
		t.Errorf("a share's bytes are not uniform: chi square %.0f", chi)
	}
}

func FuzzParseShare(f *testing.F) {
	shares, err := rootkey.Split(3, 2)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(shares[0].String())
	f.Add("coffer-share-1:::::")
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := rootkey.ParseShare(text); err == nil {
			if again, err := rootkey.ParseShare(s.String()); err != nil || again.String() != s.String() {
				t.Errorf("a share does not survive being written: %v", err)
			}
		}
	})
}
