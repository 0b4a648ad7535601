package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

// ErrRemoved says that this node was removed from its cluster, and what to do.
var ErrRemoved = errors.New("this node was removed from the cluster: its data is out of date and is not served any " +
	"more. To bring it back, empty its data directory and start it again: it then joins as a new node")

const (
	watchInterval = 250 * time.Millisecond
	askInterval   = time.Second     // between questions whether this node is a member still
	proveInterval = 5 * time.Second // between looks at members that have not been reached
)

// watchMembers follows the configuration: it ends the connections of nodes that leave it, finds out whether this node
// was removed, and asks members that this node has not spoken with yet.
func (n *Cluster) watchMembers(ctx context.Context) {
	var before []raft.Server
	var asked, proved time.Time
	every(ctx, watchInterval, func() {
		r := n.raft.Load()
		if r == nil {
			return
		}
		servers := n.servers()
		n.closeLeft(before, servers)
		before = servers
		if !n.isMember(n.id) || r.State() == raft.Shutdown || n.leader() == "" {
			if time.Since(asked) >= askInterval {
				asked = time.Now()
				n.findRemoved(ctx)
			}
		}
		if time.Since(proved) >= proveInterval {
			proved = time.Now()
			n.proveMembers(ctx, servers)
		}
	})
}

// closeLeft ends the connections of nodes that were in the configuration and are not any more.
func (n *Cluster) closeLeft(before, servers []raft.Server) {
	for _, s := range before {
		in := func(o raft.Server) bool { return o.ID == s.ID }
		if id := string(s.ID); id != n.id && !slices.ContainsFunc(servers, in) {
			n.log.Info("a node left the cluster; its connections are closed", "node", id)
			n.peers.closePeer(id)
			if t := n.peers.transport; t != nil {
				t.drop(id)
			}
		}
	}
}

// proveMembers asks each member that has not said yet what it is.
func (n *Cluster) proveMembers(ctx context.Context, servers []raft.Server) {
	for _, s := range servers {
		id := string(s.ID)
		if e, _ := n.book.of(id); id != n.id && e.Format == 0 {
			go func() { _, _ = n.askMembership(ctx, id) }() // what it answers is noted; it ends with its time-out
		}
	}
}

// findRemoved asks the nodes that may know whether this one is a member still. It is removed if so many say so as must
// have agreed to it: a majority of the voters that it last knew, itself not counted, each of which is a voter
// and has a log that is no older than its own. One node alone, or gossip, can't make another believe it.
func (n *Cluster) findRemoved(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	own := n.logEnd()
	if len(n.servers()) == 0 {
		return // it is joining: whoever has not heard of it yet says nothing of a removal
	}
	ids, voters := map[string]bool{}, 0
	for _, s := range n.servers() {
		if id := string(s.ID); id != n.id {
			ids[id] = true
			if isVoter(s) {
				voters++
			}
		}
	}
	for id, m := range n.gossip.members() {
		if id != n.id && m.Cluster == n.ID() {
			ids[id] = true
		}
	}
	answers := make(chan string, len(ids))
	for id := range ids {
		go func() {
			m, err := n.askMembership(ctx, id)
			_, in := m.Members[n.id]
			if err != nil || in || m.Cluster != n.ID() || own.beyond(m.Log) || !m.Members[id] {
				id = ""
			}
			answers <- id
		}()
	}
	var say []string
	for range ids {
		if id := <-answers; id != "" {
			say = append(say, id)
		}
	}
	if len(say) == 0 || ctx.Err() != nil && len(say) <= voters/2 {
		n.deniedBy.Store(nil)
		return
	}
	slices.Sort(say)
	if len(say) <= voters/2 {
		text := strings.Join(say, ", ")
		n.deniedBy.Store(&text)
		return
	}
	n.removed.Do(func() { n.config.OnRemoved(fmt.Errorf("%w (says %s)", ErrRemoved, strings.Join(say, ", "))) })
}
