package fsm_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"coffer/fsm"
	"coffer/kms"
	"coffer/refusal"
	"coffer/secret"
)

// largeKey is a key whose parts are within their bounds, and whose row is not.
func largeKey(id string) *fsm.CreateKey {
	k := kms.Key{ID: id, Account: account, Spec: kms.Symmetric, Created: 1}
	for i := range 300 {
		k.Materials = append(k.Materials, kms.Material{ID: fmt.Sprint(i), Wrapped: make([]byte, 4<<10)})
	}
	return &fsm.CreateKey{Root: "r", Key: k}
}

// TestWhatIsTooLargeIsRefusedAlone applies commands that the leader lets through and whose rows no snapshot could hold,
// among others: those are carried out, and all nodes come to the same state, however Raft divides the entries.
func TestWhatIsTooLargeIsRefusedAlone(t *testing.T) {
	if err := fsm.Check(largeKey("x")); err != nil {
		t.Fatalf("it is not proposed, and shows nothing here: %v", err)
	}
	var logs []*raft.Log
	entry := func(commands ...fsm.Command) {
		index := uint64(len(logs) + 1)
		var encoded [][]byte
		for i, c := range commands {
			encoded = append(encoded, fsm.Encode(idOf(index, i), index-1, c))
		}
		logs = append(logs, &raft.Log{
			Index: index, Term: 1, Type: raft.LogCommand, Data: fsm.EncodeEntry(encoded),
		})
	}
	create := func(name string) fsm.Command { return &fsm.CreateSecret{Ref: refTo(name), At: 1} }
	entry(initCommand())
	entry(create("a"), largeKey("x"), create("b"), largeKey("y"))
	entry(largeKey("z"))
	entry(create("c"))

	whole, single := newMischief(t), newMischief(t)
	whole.store, single.store = open(t, t.TempDir()), open(t, t.TempDir())
	outcomes := whole.store.ApplyBatch(logs)
	for i, l := range logs {
		if got := single.store.Apply(l); fmt.Sprint(got) != fmt.Sprint(outcomes[i]) {
			t.Errorf("entry %d: %v alone, %v in a batch", l.Index, got, outcomes[i])
		}
	}
	refused := func(entry, command int) bool {
		out, ok := outcomes[entry-1].([]fsm.Outcome)
		return ok && out[command].Refused != nil && out[command].Refused.Kind == refusal.KindValidation
	}
	if !refused(2, 1) || !refused(2, 3) || !refused(3, 0) || refused(2, 0) || refused(4, 0) {
		t.Errorf("outcomes: %+v", outcomes[1:])
	}
	for _, name := range []string{"a", "b", "c"} {
		if !exists(t, whole.store, name) {
			t.Errorf("%s was not created", name)
		}
	}
	_, one := whole.store.Digest()
	if _, other := single.store.Digest(); one != other {
		t.Error("the states differ")
	}
	whole.unharmed()
}

// TestTheLargestCommandsAreRefused by the leader, where parts that no client can make so large add up to a row.
func TestTheLargestCommandsAreRefused(t *testing.T) {
	long := strings.Repeat("x", 1025)
	for what, c := range map[string]fsm.Command{
		"a material's description": &fsm.CreateKey{Key: kms.Key{
			ID: "k", Account: account, Materials: []kms.Material{{Description: long}},
		}},
		"a material wrapped anew": &fsm.RotateRootKey{
			Materials: []fsm.RewrappedMaterial{{Old: []byte{1}, New: make([]byte, 5<<10)}},
		},
		"a replication key's id": &fsm.AddReplicationKey{Key: fsm.ReplicationKey{ID: long}},
		"a link's key":           &fsm.AddLinks{Ref: refTo("a"), Links: newLinkUnder(long)},
		"a secret's key":         &fsm.CreateSecret{Ref: refTo("a"), KeyID: long},
		"a replica's key": &fsm.Receive{
			From: fsm.Sender{Region: "b"}, Ref: refTo("a"), Link: "l", Displace: "d", KeyID: long,
		},
	} {
		if fsm.Check(c) == nil {
			t.Errorf("%s: it can be proposed", what)
		}
	}
}

func newLinkUnder(key string) []secret.NewLink {
	return []secret.NewLink{{ID: "l", Region: "r", KeyID: key}}
}

// TestAHandOverThatComesBackLeavesNothing has another region, which never said that it took a secret over, hand it back
// with links that do not name it. What is left of the first hand-over must not outlive the secret.
func TestAHandOverThatComesBackLeavesNothing(t *testing.T) {
	m := newMischief(t)
	m.do(
		&fsm.CreateSecret{Ref: refTo("a"), At: 1, Links: []secret.NewLink{{ID: "l1", Region: "b"}}},
		&fsm.Settle{Region: "b", At: 2, Answers: []fsm.LinkAnswer{{Ref: refTo("a"), Link: "l1", Revision: 9, ReadAt: 2}}},
		&fsm.HandOver{Ref: refTo("a"), At: 3, To: "b", Links: []secret.NewLink{{ID: "l2", Region: "us-east-1"}}},
		&fsm.Receive{
			From: fsm.Sender{Region: "b", Epoch: 1}, Ref: refTo("a"), At: 4, Link: "l2", Revision: 10, Full: true,
			Displace: "d", HandOver: []secret.NewLink{{ID: "l3", Region: "c"}}, Created: 1, Changed: 4,
		},
		&fsm.RemoveLinks{Ref: refTo("a"), At: 5, Regions: []string{"c"}},
		&fsm.DeleteNow{Ref: refTo("a")},
		&fsm.SetPeer{Region: "b", At: 5, Epoch: 1},
		&fsm.SetPeer{Region: "b", At: 6, Epoch: 2}, // all links to b are sent again
	)
	m.unharmed()
}
