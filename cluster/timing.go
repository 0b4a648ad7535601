package cluster

import (
	"fmt"
	"time"
)

// DefaultElectionTimeout suits nodes a few milliseconds apart.
const DefaultElectionTimeout = 400 * time.Millisecond

// The bounds of an election timeout. A shorter one is less than what a busy machine or a disk's sync may take, and a
// region with a longer one is without a leader for longer than clients wait.
const (
	minElectionTimeout = 100 * time.Millisecond
	maxElectionTimeout = 10 * time.Second
)

// CheckElectionTimeout says what is wrong with an election timeout; 0 is the default.
func CheckElectionTimeout(d time.Duration) error {
	if d != 0 && (d < minElectionTimeout || d > maxElectionTimeout) {
		return fmt.Errorf("the election timeout is %v: wanted %v to %v, at least ten times the way there and back between"+
			" the nodes", d, minElectionTimeout, maxElectionTimeout)
	}
	return nil
}

// timing is what follows from how long a node waits for a word of its leader.
type timing struct {
	election time.Duration // a lost leader is noticed after one to two times this
	lease    time.Duration // a leader that no majority answers steps down after this; always less, so it does so first
	read     time.Duration // that a read waits for a leader
	propose  time.Duration // that a write waits for a majority: an election must fit, and clients must not wait for long
}

func timingOf(election time.Duration) timing {
	if election == 0 {
		election = DefaultElectionTimeout
	}
	return timing{
		election: election,
		lease:    election / 2,
		read:     max(time.Second, 5*election/2),
		propose:  max(4500*time.Millisecond, 8*election),
	}
}
