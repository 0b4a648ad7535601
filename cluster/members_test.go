package cluster_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"coffer/cluster"
	"coffer/cluster/pki"
	"coffer/cluster/quorum"
)

// status is what `coffer cluster status` prints.
func (m *member) status() (s cluster.Status, err error) {
	code, body, err := m.call(m.g.credentials(pki.Operator, "op"), http.MethodGet, "/status", nil)
	if err == nil && code != http.StatusOK {
		err = errors.New(body)
	}
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(body), &s)
}

func (m *member) id() string { return m.config.Credentials.Identity.ID }

func (m *member) remove(id, more string) (int, string) {
	m.g.t.Helper()
	code, body, err := m.call(m.g.credentials(pki.Operator, "op"), http.MethodPost, "/remove?id="+id+more, nil)
	noError(m.g.t, err)
	return code, body
}

// awaitVoters waits until a node lists the wanted voters.
func (m *member) awaitVoters(want ...string) {
	m.g.t.Helper()
	m.await("the wanted voters", func() error {
		var got []string
		for _, s := range m.Status().Members {
			if s.Voter {
				got = append(got, s.ID)
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			return fmt.Errorf("voters: %v, wanted %v", got, want)
		}
		return nil
	})
}

func others(all []*member, but *member) []*member {
	return slices.DeleteFunc(slices.Clone(all), func(m *member) bool { return m == but })
}

// TestARemovalThatCostsTheMajorityIsRefused stops a follower and asks for the removal of the other one, which lives: a
// region of the leader and the dead one could not even commit the next change of its members.
func TestARemovalThatCostsTheMajorityIsRefused(t *testing.T) {
	nodes := newGroup(t).three()
	leader := leaderOf(nodes...)
	rest := others(nodes, leader)
	dead, alive := rest[0], rest[1]
	dead.stop()
	code, body := leader.remove(alive.id(), "")
	if code != http.StatusConflict || !strings.Contains(body, dead.id()) || !strings.Contains(body, "2 of the 2 voters") {
		t.Errorf("the removal of a live node while another is dead: %d %s", code, body)
	}
	noError(t, leader.write("goes on"))
	s, err := leader.status()
	noError(t, err)
	if s.Health.Tolerates != 0 || !slices.Contains(s.Health.Problems, "node "+dead.id()+" does not answer") {
		t.Errorf("health while a node is dead: %+v", s.Health)
	}
	if code, body := leader.remove(dead.id(), ""); code != http.StatusOK {
		t.Errorf("the removal of the dead node: %d %s", code, body)
	}
	noError(t, leader.write("goes on without it"))
}

// TestAForcedRemovalIsDone though the region can't go on then.
func TestAForcedRemovalIsDone(t *testing.T) {
	nodes := newGroup(t).three()
	nodes[2].stop()
	var leader *member
	nodes[0].await("a leader to take the removal", func() error { // on a busy machine the two may elect another one
		leader = leaderOf(nodes[:2]...)
		other := others(nodes[:2], leader)[0]
		code, body := leader.remove(other.id(), "&force=true")
		switch {
		case code == http.StatusConflict && strings.Contains(body, "does not lead"):
			return errors.New(body)
		case code == http.StatusConflict:
			t.Errorf("the forced removal was refused: %s", body)
		}
		return nil
	})
	leader.await("the region to end", func() error {
		if leader.IsLeader() {
			return errors.New("it has a leader")
		}
		return nil
	})
}

// TestHealthOfAWholeRegion is the same at every node.
func TestHealthOfAWholeRegion(t *testing.T) {
	nodes := newGroup(t).three()
	for _, m := range nodes {
		m.await("health", func() error {
			s, err := m.status()
			if err == nil && (s.Health.Tolerates != 1 || s.Health.Summary != "tolerates 1 more failure" ||
				s.Health.Problems != nil) {
				err = fmt.Errorf("%+v", s.Health)
			}
			return err
		})
	}
}

// TestANonVoterNeverVotes has a node that only reads, before and after a change of leaders. A learner that joins last
// becomes a voter: it was the non-voter's turn before.
func TestANonVoterNeverVotes(t *testing.T) {
	g := newGroup(t)
	nodes := g.three()
	g.with = func(c *cluster.Config) { c.NonVoter = true }
	reader := g.add("n4", 0, nodes...)
	g.with = nil
	reader.awaitReady()
	noError(t, reader.ReadBarrier(t.Context()))
	leader := leaderOf(nodes...)
	leader.StepDown()
	learner := g.add("n5", 0, nodes...)
	learner.awaitVoters("n1", "n2", "n3", "n5")
	noError(t, reader.ReadBarrier(t.Context()))
	s, err := reader.status()
	noError(t, err)
	i := slices.IndexFunc(s.Members, func(m cluster.Member) bool { return m.ID == "n4" })
	if i < 0 || s.Members[i].Voter || !s.Members[i].NonVoter {
		t.Errorf("members: %+v", s.Members)
	}
	if s.Health.Tolerates != 1 {
		t.Errorf("four voters and a non-voter: %+v", s.Health)
	}
}

// TestADeadServerIsRemoved after the configured time, and leaves three.
func TestADeadServerIsRemoved(t *testing.T) {
	g := newGroup(t)
	g.with = func(c *cluster.Config) { c.RemoveDead = quorum.RemoveDead{After: 2 * time.Second} }
	nodes := g.three()
	nodes = append(nodes, g.add("n4", 0, nodes...))
	nodes[0].awaitVoters("n1", "n2", "n3", "n4")
	nodes[3].stop()
	nodes[0].awaitVoters("n1", "n2", "n3")
	noError(t, nodes[0].write("goes on"))
}

// TestARegionOfOneGrowsToThree has one node join a region of one and go away: it had no vote, and the region takes
// writes. With a second one both get their votes.
func TestARegionOfOneGrowsToThree(t *testing.T) {
	g := newGroup(t)
	one := g.add("n1", 1)
	one.awaitReady()
	two := g.add("n2", 0, one)
	two.awaitReady()
	one.await("the reason why it has no vote", func() error {
		s, err := one.status()
		problems := fmt.Sprint(s.Health.Problems)
		if err == nil && (s.Health.Tolerates != 0 || !strings.Contains(problems, "waits for a third node") ||
			!strings.Contains(one.log.String(), "waits for a second one")) {
			err = fmt.Errorf("%+v", s.Health)
		}
		return err
	})
	two.stop()
	noError(t, one.write("without the one that joined"))
	two.start()
	g.add("n3", 0, one, two)
	one.awaitVoters("n1", "n2", "n3")
	noError(t, two.write("together"))
}

// TestTwoThatExpectEachOtherVote though neither may fail then: that is what was asked for.
func TestTwoThatExpectEachOtherVote(t *testing.T) {
	g := newGroup(t)
	one := g.add("n1", 2)
	g.add("n2", 2, one)
	one.awaitReady()
	one.awaitVoters("n1", "n2")
}
