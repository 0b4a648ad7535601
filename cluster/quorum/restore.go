package quorum

import (
	"fmt"
	"slices"
	"strings"
)

// CheckRestore fails unless a majority of the voters follows without the leader. If the leader of a restore is lost
// before a majority has the restored state, it discards its data, and the region needs such a majority to go on. Where
// there are one or two voters the leader keeps its data, and any restore may be made.
func (c Configuration) CheckRestore(leader string, follows func(id string) bool) error {
	voters := c.Voters()
	if len(voters) <= 2 {
		return nil
	}
	rest := slices.DeleteFunc(voters, func(id string) bool { return id == leader })
	silent := slices.DeleteFunc(slices.Clone(rest), follows)
	if need, have := Majority(len(voters)), len(rest)-len(silent); have < need {
		return fmt.Errorf("a region of %d voters would be without a majority if its leader were lost during a restore: %d"+
			" others have to follow it, and %d do. %s do not answer, are in another term or more than %d entries behind:"+
			" bring them back, or remove them, and restore again", len(voters), need, have, strings.Join(silent, ", "), Near)
	}
	return nil
}
