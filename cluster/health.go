package cluster

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"coffer/cluster/quorum"
)

// progressTimeout is how long a member may take to say how far it is.
const progressTimeout = 2 * time.Second

// progress is how far a node's log and state are.
type progress struct {
	Term     uint64 `cbor:"1,keyasint"`
	Last     uint64 `cbor:"2,keyasint"`
	Applied  uint64 `cbor:"3,keyasint"`
	NonVoter bool   `cbor:"4,keyasint,omitempty"` // it never wants a vote
	Halted   string `cbor:"5,keyasint,omitempty"` // why its store has stopped applying
}

func (n *Cluster) progress() progress {
	r := n.raft.Load()
	if r == nil {
		return progress{}
	}
	p := progress{r.CurrentTerm(), r.LastIndex(), n.config.Store.Applied(), n.config.NonVoter, ""}
	if err := n.config.Store.Halted(); err != nil {
		p.Halted = err.Error()
	}
	return p
}

func (n *Cluster) handleProgress(w http.ResponseWriter, _ *http.Request) {
	if n.raft.Load() == nil {
		http.Error(w, "not a member yet", http.StatusConflict)
		return
	}
	writeCBOR(w, n.progress())
}

// askProgress asks a node how far it is.
func (n *Cluster) askProgress(ctx context.Context, id string) (p progress, err error) {
	ctx, cancel := context.WithTimeout(ctx, progressTimeout)
	defer cancel()
	err = n.call(ctx, id, "/progress", nil, &p)
	return p, err
}

// survey is what the members say of themselves at a moment.
type survey struct {
	members quorum.Configuration
	leader  string
	term    uint64 // of the leader
	last    uint64 // the leader's last entry, before the others were asked
	said    map[string]progress
}

// survey asks all members at once how far they are. What counts is the leader's term and log: this node's, or, where
// another one leads, that one's.
func (n *Cluster) survey(ctx context.Context) survey {
	leader := n.leader()
	s := survey{members: n.members(), leader: leader, said: map[string]progress{n.id: n.progress()}}
	if leader != n.id && leader != "" {
		if p, err := n.askProgress(ctx, leader); err == nil {
			s.said[leader] = p
		}
	}
	s.term, s.last = s.said[leader].Term, s.said[leader].Last
	known := maps.Clone(s.said)
	var mu sync.Mutex // guards s.said while members are asked
	var asked sync.WaitGroup
	for _, m := range s.members {
		if _, there := known[m.ID]; there {
			continue
		}
		asked.Go(func() {
			p, err := n.askProgress(ctx, m.ID)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			s.said[m.ID] = p
		})
	}
	asked.Wait()
	return s
}

// follows reports whether a member takes what the leader sends.
func (s survey) follows(id string) bool {
	p := s.said[id]
	return s.term != 0 && quorum.Progress{Term: p.Term, Last: p.Last}.Follows(s.term, s.last)
}

// Health is what a region can still lose, and what is wrong with it.
type Health struct {
	// Tolerates is how many more voters may fail before the region takes no writes. It is negative when it takes none.
	Tolerates int `json:"tolerates_failures"`
	// Summary says the same in words.
	Summary  string   `json:"summary"`
	Problems []string `json:"problems,omitempty"`
}

// Health asks all members.
func (n *Cluster) Health(ctx context.Context) Health {
	if n.raft.Load() == nil {
		return Health{Tolerates: -1, Summary: "this node is not part of a cluster yet"}
	}
	return n.survey(ctx).health()
}

func (s survey) health() Health {
	h := Health{Tolerates: s.members.Tolerates(s.follows)}
	switch {
	case s.said[s.leader].Halted != "":
		h.Tolerates = min(h.Tolerates, -1)
		h.Summary = "the leader has stopped applying the log: the region takes no writes, and reads go on"
	case s.term == 0:
		h.Tolerates = min(h.Tolerates, -1)
		h.Summary = "no leader: the region takes no writes, and reads are marked as stale"
	case h.Tolerates < 0:
		h.Summary = fmt.Sprintf("no majority: the region takes no writes until %d more voters follow", -h.Tolerates)
	case h.Tolerates == 1:
		h.Summary = "tolerates 1 more failure"
	default:
		h.Summary = fmt.Sprintf("tolerates %d more failures", h.Tolerates)
	}
	for _, m := range s.members {
		if why := s.wrong(m.ID); why != "" {
			h.Problems = append(h.Problems, fmt.Sprintf("node %s %s", m.ID, why))
		}
		if why := s.said[m.ID].Halted; why != "" {
			h.Problems = append(h.Problems, fmt.Sprintf("node %s: %s", m.ID, why))
		}
		if p := s.said[m.ID]; !m.Voter && !p.NonVoter && s.follows(m.ID) {
			why := ""
			if len(s.members.Voters()) == 1 {
				why = ": two voters would take no writes while either is away, so it waits for a third node"
			}
			h.Problems = append(h.Problems, fmt.Sprintf("node %s has no vote yet%s", m.ID, why))
		} else if m.Voter && p.NonVoter {
			h.Problems = append(h.Problems, fmt.Sprintf("node %s votes though it was started with --non-voter: remove it,"+
				" empty its data directory and start it again", m.ID))
		}
	}
	if voters := len(s.members.Voters()); voters > 0 && voters%2 == 0 {
		h.Problems = append(h.Problems, fmt.Sprintf("%d voters tolerate no more failures than %d: add one or remove one",
			voters, voters-1))
	}
	slices.Sort(h.Problems)
	return h
}

// wrong says why a member does not follow, empty if it does.
func (s survey) wrong(id string) string {
	p, said := s.said[id]
	switch {
	case !said:
		return "does not answer"
	case s.follows(id), s.term == 0:
		return ""
	case p.Term != s.term:
		return fmt.Sprintf("is in term %d, the leader in %d", p.Term, s.term)
	}
	return fmt.Sprintf("is %d log entries behind the leader", s.last-p.Last)
}
