package quorum

// Question is a node's wish to read: who asks, and in which term it was when it asked, after the reads that it asks
// for had begun.
type Question struct {
	From string
	Term uint64
}

// Answer is what a voter says to a leader's round: the round's number, and the voter's own term, which it read after
// the question had arrived.
type Answer struct {
	From  string // by its certificate
	Round uint64
	Term  uint64
}

// Tally decides one round, in which a leader asks all voters for their terms. It shows that no later leader had
// committed anything before the round began: such a leader had the votes of a majority, each voter raises its term
// before it votes, terms never fall, and two majorities share a voter, who would have answered with a later term.
//
// Configurations that follow each other differ by one voter and their majorities overlap too. A leader that has
// committed in its term knows all but the last of those that a later leader can have been elected in, so Raft's
// latest configuration, uncommitted included, is the right one, if it was read after the round began.
type Tally struct {
	self    string
	term    uint64
	round   uint64
	members Configuration
	equal   map[string]bool // voters that answered with the round's term
	refused bool
}

// NewTally begins to count for the leader self. The latest configuration, and whether self leads in term and has
// committed in it, must have been read after the round began.
func NewTally(self string, term, round uint64, latest Configuration) *Tally {
	return &Tally{self: self, term: term, round: round, members: latest, equal: map[string]bool{}}
}

// Count takes an answer. Those to other rounds were perhaps sent before this one began, and say nothing.
func (t *Tally) Count(a Answer) {
	switch {
	case a.Round != t.round || a.From == t.self || !t.members.Votes(a.From):
	case a.Term > t.term:
		t.refused = true // this leader is deposed or about to be
	case a.Term == t.term:
		t.equal[a.From] = true
	}
	// A voter in an earlier term has not heard of this leader yet, or has lost what it knew. It counts for nothing.
}

// Refused reports whether a voter is in a later term. The round has failed then.
func (t *Tally) Refused() bool { return t.refused }

// Majority reports whether enough voters are in the round's term to answer a question. The leader counts if it is a
// voter itself. Who asks has answered by asking: its own reads had begun before. For others' reads that does not count,
// since its question may have been sent before those began.
func (t *Tally) Majority(q Question) bool {
	votes := len(t.equal)
	if t.members.Votes(t.self) {
		votes++
	}
	if q.From != t.self && q.Term == t.term && t.members.Votes(q.From) && !t.equal[q.From] {
		votes++
	}
	return !t.refused && votes >= Majority(len(t.members.Voters()))
}

// Stands reports whether the round still means what it meant: the leader leads in the same term, which is its own
// answer, and the configuration is the same.
func (t *Tally) Stands(leads uint64, latest Configuration) bool {
	return leads == t.term && t.members.Equal(latest)
}
