package cluster_test

import (
	"errors"
	"net/http"
	"testing"

	"coffer/cluster/pki"
)

// TestAbsentNodeHearsALeaderThatItDoesNotKnow takes a node in and has it lead while another one is down: that one
// returns with a configuration in which there is no such node, and follows it.
func TestAbsentNodeHearsALeaderThatItDoesNotKnow(t *testing.T) {
	g := newGroup(t)
	nodes := g.three()
	leader := leaderOf(nodes...)
	rest := others(nodes, leader)
	absent := rest[0]
	absent.stop()
	fresh := g.add("n4", 0, leader, rest[1])
	fresh.awaitReady()
	operator := g.credentials(pki.Operator, "op")
	fresh.await("leadership of the new node", func() error {
		if fresh.IsLeader() {
			return nil
		}
		if code, body, err := leaderOf(leader, rest[1], fresh).call(operator, http.MethodPost, "/transfer-leader?to=n4",
			nil); code != http.StatusOK {
			return errors.Join(err, errors.New(body))
		}
		return errors.New("not yet")
	})
	noError(t, fresh.write("by the new leader"))
	absent.start()
	absent.awaitReady()
	noError(t, absent.write("by the one that was away"))
}

// TestGossipCannotMoveANode has somebody with the gossip key claim another address for a node: it is reached where it
// was last found.
func TestGossipCannotMoveANode(t *testing.T) {
	g := newGroup(t)
	nodes := g.three()
	leader := leaderOf(nodes...)
	moved := others(nodes, leader)[0]
	moved.stop()
	moved.config.PeerAdvertise = freeAddr(t) // where nobody is: it says so by gossip, as an intruder would say for it
	moved.config.PeerAddr = moved.peer()
	moved.start()
	moved.awaitReady()
	noError(t, moved.write("by the node at its old address"))
}
