package fsm_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"coffer/fsm"
	"coffer/kms"
	"coffer/secret"
)

// mischief is a store and commands of a member that means harm: those that the leader would refuse are not applied.
type mischief struct {
	t     *testing.T
	store *fsm.Store
	index uint64
	found error // damage
}

func newMischief(t *testing.T) *mischief {
	m := &mischief{t: t, index: 1}
	m.store = openWith(t, t.TempDir(), fsm.Options{OnDamage: func(err error) { m.found = err }})
	m.do(initCommand())
	return m
}

func (m *mischief) do(commands ...fsm.Command) {
	m.t.Helper()
	for _, c := range commands {
		if fsm.Check(c) == nil {
			apply(m.t, m.store, m.index, c)
			m.index++
		}
	}
}

// unharmed fails if the store stopped applying, takes itself for damaged, or has a state that can't be restored.
func (m *mischief) unharmed() {
	m.t.Helper()
	if err := m.store.Halted(); err != nil {
		m.t.Error(err)
	}
	var archive bytes.Buffer
	if err := m.store.Save(&archive); err != nil {
		m.t.Error(err)
	}
	if _, err := fsm.ReadSnapshot(&archive); err != nil {
		m.t.Errorf("what was saved can't be restored: %v", err)
	}
	if _, err := m.store.Scrub(m.t.Context()); err != nil || m.found != nil {
		m.t.Errorf("the state is taken for damaged: %v, %v", err, m.found)
	}
}

// TestHostileCommandsHarmNobody proposes what a client never comes to, and a member with a mistake or a bad intent
// could.
// The test hangs where one of them does.
func TestHostileCommandsHarmNobody(t *testing.T) {
	key := func(change func(*kms.Key)) fsm.Command {
		k := kms.Key{ID: "k2", Account: account, Spec: kms.Symmetric, Created: 1,
			Materials: []kms.Material{{ID: "m", Wrapped: []byte{1}}}}
		change(&k)
		return &fsm.CreateKey{Root: "r", Key: k}
	}
	ref := fsm.KeyRef{Account: account, ID: "k2"}
	rotate := &fsm.RotateKey{Ref: ref, At: 2, Generation: 1, Automatic: true, Root: "r",
		Material: kms.Material{ID: "m2", Wrapped: []byte{1}}}
	version := &fsm.NewVersion{ID: "v", KeyID: "k", WrappedKey: []byte{1}, Sealed: []byte{2}}
	overwrite := func(name string) fsm.Command {
		return &fsm.Receive{
			From: fsm.Sender{Region: "eu-west-1"}, Ref: fsm.Ref{Account: account, Name: name, Suffix: "BBBBBB"}, At: 2,
			Link: "l" + name, Revision: 1, Full: true, Overwrite: true, Displace: "d",
		}
	}
	links := func(batch int) fsm.Command {
		c := &fsm.AddLinks{Ref: refTo("a"), At: 1}
		for i := range 256 {
			c.Links = append(c.Links, secret.NewLink{ID: "l", Region: fmt.Sprint(strings.Repeat("r", 1000), batch, "-", i)})
		}
		return c
	}
	for name, commands := range map[string][]fsm.Command{
		"a rotation without end":      {key(func(k *kms.Key) { k.Period, k.NextAt = -1, 1 }), rotate},
		"a rotation without a period": {key(func(k *kms.Key) { k.NextAt = 1 }), rotate},
		"a generation that is none": {
			key(func(k *kms.Key) { k.Current = 7 }), &fsm.DeleteMaterial{Ref: ref, At: 1, MaterialID: "m"},
		},
		"nothing imported that waits": {key(func(*kms.Key) {}), &fsm.RotateToImported{Ref: ref, At: 1}},
		"a displaced secret that is none": {
			&fsm.CreateSecret{Ref: refTo(secret.DisplacedKey("x")), At: 1},
			&fsm.RestoreDisplaced{Account: account, ID: "x", At: 2},
		},
		"one id for two displaced": {
			&fsm.CreateSecret{Ref: refTo("a"), At: 1, Version: version},
			&fsm.CreateSecret{Ref: refTo("b"), At: 1, Version: version},
			overwrite("a"), overwrite("b"),
		},
		"links without end": {
			&fsm.CreateSecret{Ref: refTo("a"), At: 1}, links(0), links(1), links(2), links(3), links(4), links(5),
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMischief(t)
			m.do(commands...)
			m.unharmed()
		})
	}
}

// TestAnArchiveOfAnIndexThatNoLogReachesIsRefused shows that no archive can make indexes overflow.
func TestAnArchiveOfAnIndexThatNoLogReachesIsRefused(t *testing.T) {
	m := newMischief(t)
	var archive bytes.Buffer
	if err := m.store.Save(&archive); err != nil {
		t.Fatal(err)
	}
	const indexAt = 8 // behind the magic
	binary.BigEndian.PutUint64(archive.Bytes()[indexAt:], 1<<62)
	_, err := fsm.ReadSnapshot(&archive)
	if !errors.Is(err, fsm.ErrBadSnapshot) || !strings.Contains(err.Error(), "no log reaches") {
		t.Errorf("got %v", err)
	}
}
