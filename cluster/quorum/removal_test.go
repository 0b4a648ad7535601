package quorum_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"coffer/cluster/quorum"
)

// members reads "a b c+": voters, and with a plus learners.
func members(text string) (c quorum.Configuration) {
	for id := range strings.FieldsSeq(text) {
		name, learner := strings.CutSuffix(id, "+")
		c = append(c, quorum.Server{ID: name, Voter: !learner})
	}
	return c
}

func among(text string) func(string) bool {
	all := " " + text + " "
	return func(id string) bool { return strings.Contains(all, " "+id+" ") }
}

func TestARemovalLeavesAMajorityThatFollows(t *testing.T) {
	for _, c := range []struct {
		members, remove, follow string
		want                    string // part of the error; empty for none
	}{
		{"a b c", "c", "a b", ""},
		{"a b c", "c", "a b c", ""},
		{"a b c", "b", "a b", "2 of the 2 voters that remain would have to follow the leader, and 1 do: c"},
		{"a b", "b", "a", ""},
		{"a b", "a", "a b", ""}, // the leader itself
		{"a b c", "a", "a b", "and 1 do: c"},
		{"a", "a", "a", "only voter"},
		{"a b+", "a", "a b", "only voter"},
		{"a b c d e", "e", "a b c", ""},
		{"a b c d e", "c", "a b c", "3 of the 4 voters that remain would have to follow the leader, and 2 do: d, e"},
		{"a b c+", "b", "a c", ""}, // a learner does not count, for or against
		{"a b c d+", "b", "a b d", "and 1 do: c"},
		{"a b c d+", "d", "a", ""},
	} {
		err := members(c.members).CheckRemoval(c.remove, among(c.follow))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestAllowedRemovalsNeverCostTheMajority holds what is allowed against the naive question: can the rest still commit?
func TestAllowedRemovalsNeverCostTheMajority(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := quorum.Configuration{}
		follow := map[string]bool{}
		for _, id := range strings.Split("abcdefg", "")[:rapid.IntRange(1, 7).Draw(t, "servers")] {
			c = append(c, quorum.Server{ID: id, Voter: rapid.Bool().Draw(t, "voter")})
			follow[id] = rapid.Bool().Draw(t, "follows")
		}
		follows := func(id string) bool { return follow[id] }
		id := rapid.SampledFrom(c).Draw(t, "removed").ID
		err := c.CheckRemoval(id, follows)
		var refused *quorum.RemovalError
		if err != nil && !errors.As(err, &refused) {
			t.Fatal(err)
		}
		rest := c.Without(id)
		commits := 0
		for _, v := range rest.Voters() {
			if follows(v) {
				commits++
			}
		}
		if can := 2*commits > len(rest.Voters()); c.Votes(id) && can != (err == nil) {
			t.Fatalf("%v without %s: can commit: %v, refused: %v", c, id, can, err)
		}
		if got := rest.Tolerates(follows); err == nil && c.Votes(id) && got < 0 {
			t.Fatalf("%v without %s tolerates %d", c, id, got)
		}
	})
}

func TestAVoterFollowsInTheLeadersTermAndNear(t *testing.T) {
	for _, c := range []struct {
		p    quorum.Progress
		want bool
	}{
		{quorum.Progress{Term: 3, Last: 1000}, true},
		{quorum.Progress{Term: 3, Last: 936}, true},
		{quorum.Progress{Term: 3, Last: 935}, false},
		{quorum.Progress{Term: 3, Last: 1010}, true},
		{quorum.Progress{Term: 2, Last: 1000}, false},
		{quorum.Progress{Term: 4, Last: 1000}, false},
		{quorum.Progress{}, false},
	} {
		if got := c.p.Follows(3, 1000); got != c.want {
			t.Errorf("%+v: %v", c.p, got)
		}
	}
}

func TestDeadServersAreRemovedOneByOne(t *testing.T) {
	hour := quorum.RemoveDead{After: time.Hour}
	auto := quorum.RemoveDead{Auto: true}
	for _, c := range []struct {
		what    string
		rule    quorum.RemoveDead
		members string
		follow  string
		silent  map[string]time.Duration
		want    string
	}{
		{"long enough", hour, "a b c d", "a b c", map[string]time.Duration{"d": time.Hour}, "d"},
		{"not yet", hour, "a b c d", "a b c", map[string]time.Duration{"d": time.Hour - 1}, ""},
		{
			"the one that is dead for longest", hour, "a b c d e", "a b c",
			map[string]time.Duration{"d": 2 * time.Hour, "e": 3 * time.Hour}, "e",
		},
		{"three remain in any case", hour, "a b c", "a b", map[string]time.Duration{"c": 9 * time.Hour}, ""},
		{
			"no majority would follow", hour, "a b c d e", "a b",
			map[string]time.Duration{"c": 2 * time.Hour, "d": 2 * time.Hour, "e": 3 * time.Hour}, "",
		},
		{"it is back", hour, "a b c d", "a b c d", map[string]time.Duration{"d": time.Hour}, ""},
		{"a learner", hour, "a b c d+", "a b c", map[string]time.Duration{"d": time.Hour}, "d"},
		{"never", quorum.RemoveDead{}, "a b c d e", "a b c d", map[string]time.Duration{"e": 999 * time.Hour}, ""},
		{"five voters by default", auto, "a b c d e", "a b c d", map[string]time.Duration{"e": 24 * time.Hour}, "e"},
		{"four voters by default", auto, "a b c d", "a b c", map[string]time.Duration{"d": 999 * time.Hour}, ""},
		{"learners do not make it five", auto, "a b c d e+", "a b c e", map[string]time.Duration{"d": 999 * time.Hour}, ""},
	} {
		if got := members(c.members).Dead(c.rule, c.silent, among(c.follow)); got != c.want {
			t.Errorf("%s: removes %q, wanted %q", c.what, got, c.want)
		}
	}
}
