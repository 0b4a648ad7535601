package secret_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"coffer/refusal"
	"coffer/secret"
)

// TestLabelRules holds random puts and moves against a plain model of the rules: AWSCURRENT is there from the
// first value on, whoever loses it is AWSPREVIOUS, labels asked for move, others stay, refusals change nothing.
func TestLabelRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &secret.Secret{}
		var versions []string
		labels := rapid.SampledFrom([]string{secret.Current, secret.Previous, secret.Pending, "a", "b"})
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			before := maps.Collect(s.Labels.All())
			if len(versions) == 0 || rapid.Bool().Draw(t, "put") {
				id := fmt.Sprint("v", len(versions))
				asked := rapid.SliceOfNDistinct(labels, 0, 3, rapid.ID[string]).Draw(t, "labels")
				if err := s.Attach(id, asked); err != nil {
					t.Fatal(err)
				}
				versions = append(versions, id)
				want := maps.Clone(before)
				promote := before[secret.Current] == "" || slices.Contains(asked, secret.Current)
				for _, l := range asked {
					want[l] = id
				}
				if promote {
					want[secret.Current] = id
					if old := before[secret.Current]; old != "" {
						want[secret.Previous] = old
					}
				}
				if !maps.Equal(want, maps.Collect(s.Labels.All())) {
					t.Fatalf("put %s with %v over %v: got %v, want %v", id, asked, before, maps.Collect(s.Labels.All()), want)
				}
			} else {
				pick := rapid.SampledFrom(append(slices.Clone(versions), ""))
				label, from, to := labels.Draw(t, "label"), pick.Draw(t, "from"), pick.Draw(t, "to")
				err := s.MoveLabel(label, from, to)
				allowed := (from != "" || to != "") && before[label] == from && !(to == "" && label == secret.Current)
				if (err == nil) != allowed {
					t.Fatalf("move %s from %q to %q over %v: %v", label, from, to, before, err)
				}
				want := maps.Clone(before)
				switch {
				case !allowed:
				case to == "":
					delete(want, label)
				default:
					want[label] = to
					if label == secret.Current && from != to {
						want[secret.Previous] = from
					}
				}
				if !maps.Equal(want, maps.Collect(s.Labels.All())) {
					t.Fatalf("move %s from %q to %q over %v: got %v, want %v",
						label, from, to, before, maps.Collect(s.Labels.All()), want)
				}
			}
			if !s.HasValue() {
				t.Fatal("no AWSCURRENT")
			}
			last := ""
			for label := range s.Labels.All() {
				if label <= last {
					t.Fatalf("%s stands behind %s", label, last)
				}
				last = label
			}
		}
	})
}

// TestRemovable shows which deprecated versions go: the oldest beyond 100, none younger than a day.
func TestRemovable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const now = int64(100 * 24 * 60 * 60 * 1000)
		ages := rapid.SliceOfN(rapid.Int64Range(0, 3*secret.KeepVersionsFor), 0, 150).Draw(t, "ages")
		var versions []secret.Version
		for i, age := range ages {
			versions = append(versions, secret.Version{ID: fmt.Sprint(i), Created: now - age})
		}
		gone := secret.Removable(slices.Clone(versions), now)
		if len(versions)-len(gone) < min(len(versions), secret.MaxUnlabelled) {
			t.Fatalf("%d of %d removed", len(gone), len(versions))
		}
		removed := map[string]bool{}
		oldestKept, youngestGone := now+1, int64(0)
		for _, v := range gone {
			removed[v.ID] = true
			youngestGone = max(youngestGone, v.Created)
			if v.Created > now-secret.KeepVersionsFor {
				t.Fatalf("a version of age %d was removed", now-v.Created)
			}
		}
		old := 0
		for _, v := range versions {
			if !removed[v.ID] {
				oldestKept = min(oldestKept, v.Created)
				if v.Created <= now-secret.KeepVersionsFor {
					old++
				}
			}
		}
		if len(gone) > 0 && oldestKept < youngestGone {
			t.Fatal("a younger version was removed before an older one")
		}
		if len(versions)-len(gone) > secret.MaxUnlabelled && old > 0 {
			t.Fatalf("%d kept, %d of them older than a day", len(versions)-len(gone), old)
		}
	})
}

// TestLabelsOfAllVersionsAreBounded puts labels on ever more versions: they would fill the secret's row.
func TestLabelsOfAllVersionsAreBounded(t *testing.T) {
	s := &secret.Secret{}
	refused := 0
	for i := range 40 {
		if err := s.Attach(fmt.Sprint("version ", i), []string{secret.Current, fmt.Sprint("label ", i)}); err != nil {
			if !errors.Is(err, &refusal.Error{Kind: secret.KindLimitExceeded}) {
				t.Fatal(err)
			}
			refused++
		}
	}
	if refused != 20 || s.Labels.On(secret.Current) != "version 19" {
		t.Errorf("%d of 40 labels were refused, the current version is %q", refused, s.Labels.On(secret.Current))
	}
	if err := s.MoveLabel("one more", "", "version 3"); !errors.Is(err, &refusal.Error{Kind: secret.KindLimitExceeded}) {
		t.Errorf("one more: %v", err)
	}
	noError := func(what string, err error) {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	noError("a put", s.Attach("later", nil))
	noError("a rotation", s.MoveLabel(secret.Current, "version 19", "later"))
	noError("a label moves on", s.MoveLabel("label 1", "version 1", "version 2"))
	noError("it is taken away", s.MoveLabel("label 1", "version 2", ""))
	noError("there is room", s.MoveLabel("one more", "", "version 3"))
}
