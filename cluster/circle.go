package cluster

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// How long what members said of an unknown node is believed.
const (
	vouchedFor = 10 * time.Second
	deniedFor  = time.Second
)

// circle is whom this node takes Raft's messages and members' calls from: the nodes of its latest configuration; while
// it has none, those that it was introduced to when it joined; and nodes that a member vouches for, since a node that
// was away must be able to hear a leader that came after it left.
type circle struct {
	n *Cluster

	mu         sync.Mutex // guards below
	introduced map[string]bool
	term       uint64 // the cluster's when this node joined
	verdicts   map[string]*verdict
}

// verdict is what members say of an unknown node.
type verdict struct {
	known chan struct{} // closed when err is there
	err   error
	until time.Time
}

func newCircle(n *Cluster) *circle { return &circle{n: n, verdicts: map[string]*verdict{}} }

// introduce notes the members and the term of the cluster that this node joins.
func (c *circle) introduce(members []string, term uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.introduced, c.term = map[string]bool{}, term
	for _, id := range members {
		c.introduced[id] = true
	}
}

// maxTermAhead is how far beyond its own term a node lets a message take it: more than ages of elections make, and
// nothing beside what would leave no further terms.
const maxTermAhead = 1 << 20

// latestTerm is the highest term in which a message is believed.
func (c *circle) latestTerm(own uint64) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(own, c.term) + maxTermAhead
}

// trusts says why the node is not one of the circle, nil if it is.
func (c *circle) trusts(ctx context.Context, id string) error {
	servers := c.n.servers()
	for _, s := range servers {
		if string(s.ID) == id {
			return nil
		}
	}
	if len(servers) == 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.introduced[id] {
			return nil
		}
		return fmt.Errorf("node %s is none of those that node %s was told of when it joined", id, c.n.id)
	}
	v := c.verdict(id, servers)
	select {
	case <-v.known:
		return v.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// verdict returns what members say of a node, and asks them if that was too long ago.
func (c *circle) verdict(id string, servers []raft.Server) *verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.verdicts[id]
	if v != nil && (v.until.IsZero() || time.Now().Before(v.until)) {
		return v
	}
	v = &verdict{known: make(chan struct{})}
	c.verdicts[id] = v
	go c.ask(v, id, servers) // ends with the calls' own time-outs
	return v
}

func (c *circle) ask(v *verdict, id string, servers []raft.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), peerTimeout)
	defer cancel()
	own := c.n.logEnd()
	asked := 0
	vouched := make(chan bool, len(servers))
	for _, s := range servers {
		other := string(s.ID)
		if other == c.n.id || other == id {
			continue
		}
		asked++
		go func() {
			m, err := c.n.askMembership(ctx, other)
			_, in := m.Members[id]
			// One that knows no more than this node may still count a node that was removed since.
			vouched <- err == nil && in && m.Cluster == c.n.ID() && m.Log.beyond(own)
		}()
	}
	ok := false
	for ; asked > 0 && !ok; asked-- {
		ok = <-vouched
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if ok {
		v.until = time.Now().Add(vouchedFor)
	} else {
		v.until = time.Now().Add(deniedFor)
		v.err = fmt.Errorf("node %s is not a member of the cluster: no member that node %s knows says that it is", id, c.n.id)
	}
	close(v.known)
	if len(c.verdicts) > 64 { // certificates are few; their holders may come and go
		for other, old := range c.verdicts {
			if !old.until.IsZero() && time.Now().After(old.until) {
				delete(c.verdicts, other)
			}
		}
	}
}

func isVoter(s raft.Server) bool { return s.Suffrage == raft.Voter }

// logEnd is the last entry of a node's log. Of two nodes that differ in a committed entry, the one that has it has the
// higher end: that is the rule by which Raft elects leaders (its paper, section 5.4.1).
type logEnd struct {
	Term  uint64 `cbor:"1,keyasint"`
	Index uint64 `cbor:"2,keyasint"`
}

// beyond reports whether e is after o.
func (e logEnd) beyond(o logEnd) bool {
	return e.Term > o.Term || e.Term == o.Term && e.Index > o.Index
}

// logEnd is where this node's log ends, or the snapshot that stands before an empty one.
func (n *Cluster) logEnd() logEnd {
	r := n.raft.Load()
	if r == nil {
		return logEnd{}
	}
	stats := r.Stats()
	number := func(name string) uint64 {
		v, _ := strconv.ParseUint(stats[name], 10, 64) // Raft writes numbers
		return v
	}
	log := logEnd{number("last_log_term"), number("last_log_index")}
	if snapshot := (logEnd{number("last_snapshot_term"), number("last_snapshot_index")}); snapshot.Index > log.Index {
		return snapshot
	}
	return log
}
