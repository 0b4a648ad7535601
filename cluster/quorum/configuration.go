package quorum

import "slices"

// Server is a member of a region's Raft group. One that is no voter receives everything and counts for nothing.
type Server struct {
	ID    string
	Voter bool
}

// Configuration is the members of a Raft group, in Raft's order.
type Configuration []Server

// Voters are the ids of those that count.
func (c Configuration) Voters() []string {
	var ids []string
	for _, s := range c {
		if s.Voter {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// Votes reports whether the server named id counts.
func (c Configuration) Votes(id string) bool { return slices.Contains(c, Server{id, true}) }

// Equal compares by value.
func (c Configuration) Equal(other Configuration) bool { return slices.Equal(c, other) }

// Majority is how many of so many voters are more than half.
func Majority(voters int) int { return voters/2 + 1 }
