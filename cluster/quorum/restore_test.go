package quorum_test

import (
	"strings"
	"testing"

	"coffer/cluster/quorum"
)

// TestARestoreLeavesAMajorityWithoutItsLeader for regions of one to five voters, of which the first leads.
func TestARestoreLeavesAMajorityWithoutItsLeader(t *testing.T) {
	for voters, need := range map[int]int{1: 0, 2: 0, 3: 2, 4: 3, 5: 3} { // how many others have to follow
		c := quorum.Configuration{{ID: "learner"}}
		for _, id := range []string{"a", "b", "c", "d", "e"}[:voters] {
			c = append(c, quorum.Server{ID: id, Voter: true})
		}
		for following := range voters {
			follows := func(id string) bool { return id == "learner" || id == "a" || strings.Index("bcde", id) < following }
			if err := c.CheckRestore("a", follows); (err == nil) != (following >= need) {
				t.Errorf("%d voters, %d others follow: %v", voters, following, err)
			}
		}
	}
}
