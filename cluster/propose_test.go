package cluster_test

import (
	"encoding/binary"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"coffer/cluster/pki"
	"coffer/cluster/quorum"
	"coffer/fsm"
)

// ill are commands that no node proposes, encoded.
func ill(base uint64) map[string][]byte {
	tag := func(ref fsm.Ref) []byte { return fsm.Encode(named("tag"), base, &fsm.TagSecret{Ref: ref, At: 1}) }
	whole := tag(fsm.Ref{Account: "123456789012", Name: "a", Suffix: "AAAAAA"})
	return map[string][]byte{
		"garbage": []byte("garbage"),
		"nothing": {},
		"a newer kind": {
			0xa4, 1, 0x50, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 2, 0x19, 0x03, 0xe7, 3, 0xa0, 4, 0,
		},
		"cut off":       whole[:len(whole)-1],
		"with a tail":   append(whole[:len(whole):len(whole)], 0),
		"no secret":     tag(fsm.Ref{}),
		"a name of NUL": tag(fsm.Ref{Account: "123456789012", Name: "a\x00b", Suffix: "AAAAAA"}),
		"a format of a newer version": fsm.Encode(named("raise"), base,
			&fsm.RaiseFormat{To: fsm.Formats().Newest + 1, Term: 2}),
		"too large": fsm.Encode(named("put"), base, &fsm.PutVersion{
			Ref: fsm.Ref{Account: "123456789012", Name: "a", Suffix: "AAAAAA"}, At: 1,
			Version: fsm.NewVersion{ID: "v", KeyID: "k", Sealed: make([]byte, 1<<20)},
		}),
	}
}

// TestWhatIsNoCommandIsNotProposed has a node propose what can't be read or stored, to the leader and through a
// follower, beside commands that can: these are carried out, the others are refused, and every node goes on.
func TestWhatIsNoCommandIsNotProposed(t *testing.T) {
	g := newGroup(t)
	nodes := g.three()
	leader := leaderOf(nodes...)
	node := g.credentials(pki.Node, "n3")
	n := uint64(0)
	good := func() []byte {
		n++
		var id fsm.ID
		binary.BigEndian.PutUint64(id[:], n)
		return fsm.Encode(id, leader.config.Store.Applied(), &fsm.Checkpoint{})
	}
	for what, command := range ill(leader.config.Store.Applied()) {
		before := leader.config.Store.Applied()
		body, err := cbor.Marshal([][]byte{good(), command, good()})
		noError(t, err)
		status, got, err := leader.call(node, http.MethodPost, "/propose", body)
		noError(t, err)
		var answers []struct {
			Err  string `cbor:"2,keyasint,omitempty"`
			Kind int    `cbor:"3,keyasint,omitempty"`
		}
		if err := cbor.Unmarshal([]byte(got), &answers); err != nil || status != http.StatusOK || len(answers) != 3 {
			t.Fatalf("%s: %d %q", what, status, got)
		}
		if answers[0].Err != "" || answers[2].Err != "" || answers[1].Kind != 1 {
			t.Errorf("%s: %+v", what, answers)
		}
		if leader.config.Store.Applied() == before {
			t.Errorf("%s: the commands beside it were not applied", what)
		}
		for _, m := range nodes {
			if _, err := m.Propose(t.Context(), command); !errors.Is(err, quorum.ErrRefused) {
				t.Errorf("%s, proposed by %s: %v", what, m.config.Credentials.Identity.ID, err)
			}
		}
	}
	for _, m := range nodes {
		noError(t, m.write("after all "+m.config.Credentials.Identity.ID))
		m.awaitReady()
	}
	if !strings.Contains(leader.log.String(), "what can't be a command") {
		t.Error("the leader's log does not tell who proposed such things")
	}
}
