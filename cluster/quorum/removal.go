package quorum

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Near is how many log entries a node may lack to count as one that follows.
const Near = 64

// Progress is what a node says of its log.
type Progress struct {
	Term uint64
	Last uint64 // index of the last entry
}

// Follows reports whether a node with this progress takes what a leader sends: it is in the leader's term and at most
// [Near] entries behind.
func (p Progress) Follows(term, last uint64) bool { return p.Term == term && p.Last+Near >= last }

// Without is the configuration after a server was removed.
func (c Configuration) Without(id string) Configuration {
	return slices.DeleteFunc(slices.Clone(c), func(s Server) bool { return s.ID == id })
}

// Tolerates is how many more voters may fail before a region takes no writes, where those that follow are known. It is
// negative when a majority lacks already.
func (c Configuration) Tolerates(follows func(id string) bool) int {
	return c.following(follows) - Majority(len(c.Voters()))
}

func (c Configuration) following(follows func(id string) bool) int {
	count := 0
	for _, id := range c.Voters() {
		if follows(id) {
			count++
		}
	}
	return count
}

// RemovalError says that a removal would leave a region that may not be able to commit anything, not even the next
// change of its members.
type RemovalError struct {
	ID      string
	Remain  []string // voters that would remain
	Silent  []string // those of them that do not follow
	Follows int      // how many do
}

// Error is part of the error interface.
func (e *RemovalError) Error() string {
	if len(e.Remain) == 0 {
		return fmt.Sprintf("node %s is the only voter and can't be removed", e.ID)
	}
	return fmt.Sprintf("without node %s, %d of the %d voters that remain would have to follow the leader, and %d do: %s"+
		" do not answer, are in another term or more than %d entries behind. Bring them back first, or remove them",
		e.ID, Majority(len(e.Remain)), len(e.Remain), e.Follows, strings.Join(e.Silent, ", "), Near)
}

// Final reports whether no operator can want the removal all the same.
func (e *RemovalError) Final() bool { return len(e.Remain) == 0 }

// CheckRemoval fails with a RemovalError unless a majority of the voters that would remain follows. A node that is no
// voter can always be removed.
func (c Configuration) CheckRemoval(id string, follows func(id string) bool) error {
	if !c.Votes(id) {
		return nil
	}
	rest := c.Without(id)
	e := &RemovalError{ID: id, Remain: rest.Voters(), Follows: rest.following(follows)}
	if len(e.Remain) > 0 && e.Follows >= Majority(len(e.Remain)) {
		return nil
	}
	for _, v := range e.Remain {
		if !follows(v) {
			e.Silent = append(e.Silent, v)
		}
	}
	return e
}

const (
	// FewestVoters is what removing dead servers leaves in any case.
	FewestVoters = 3
	// removeByDefault is from how many voters on dead servers are removed where nothing was configured, and defaultDead
	// after which time.
	removeByDefault = 5
	defaultDead     = 24 * time.Hour
)

// RemoveDead says when a server that does not answer is removed.
type RemoveDead struct {
	After time.Duration // 0 never
	Auto  bool          // after a day in regions of at least five voters, never in smaller ones
}

// Dead is the server to remove next, empty if none: the one that has been silent for longest, if that is long enough,
// [FewestVoters] remain, and a majority of those that remain follows.
func (c Configuration) Dead(rule RemoveDead, silent map[string]time.Duration, follows func(id string) bool) string {
	after := rule.After
	if rule.Auto && len(c.Voters()) >= removeByDefault {
		after = defaultDead
	}
	dead := ""
	for _, s := range c {
		if after > 0 && silent[s.ID] >= after && !follows(s.ID) && (dead == "" || silent[s.ID] > silent[dead]) {
			dead = s.ID
		}
	}
	if dead == "" || c.Votes(dead) && len(c.Without(dead).Voters()) < FewestVoters ||
		c.CheckRemoval(dead, follows) != nil {
		return ""
	}
	return dead
}
