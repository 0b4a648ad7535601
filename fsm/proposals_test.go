package fsm_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"

	"coffer/fsm"
	"coffer/kms"
	"coffer/refusal"
	"coffer/rows"
	"coffer/secret"
)

// proposed is a store and the entries that it was given.
type proposed struct {
	t     testing.TB
	store *fsm.Store
	index uint64
}

func newProposed(t testing.TB) *proposed {
	p := &proposed{t: t, store: open(t, t.TempDir())}
	p.entry(fsm.Encode(named("init"), 0, initCommand()))
	return p
}

// entry applies encoded commands as the next entry.
func (p *proposed) entry(commands ...[]byte) []fsm.Outcome {
	p.t.Helper()
	p.index++
	out := p.store.Apply(&raft.Log{Index: p.index, Term: 1, Type: raft.LogCommand, Data: fsm.EncodeEntry(commands)})
	got, ok := out.([]fsm.Outcome)
	if !ok {
		p.t.Fatalf("entry %d: %v", p.index, out)
	}
	return got
}

// make is a new command, as its proposer holds it.
func (p *proposed) make(name string, c fsm.Command) []byte {
	return fsm.Encode(named(name), p.index, c)
}

// do applies a new command, which must be carried out, and returns it to be applied again.
func (p *proposed) do(name string, c fsm.Command) []byte {
	p.t.Helper()
	made := p.make(name, c)
	if err := p.entry(made)[0].Err(); err != nil {
		p.t.Fatalf("%s: %v", name, err)
	}
	return made
}

// again applies a command again: it must be answered as if it had been carried out now.
func (p *proposed) again(made []byte) fsm.Outcome {
	p.t.Helper()
	out := p.entry(made)[0]
	if err := out.Err(); err != nil {
		p.t.Errorf("proposed again: %v", err)
	}
	return out
}

func (p *proposed) unknown(made []byte) {
	p.t.Helper()
	if err := p.entry(made)[0].Err(); !errors.Is(err, fsm.ErrUnknownFate) {
		p.t.Errorf("wanted that nobody knows the command's fate, got: %v", err)
	}
}

func (p *proposed) secret(name string) (s *secret.Secret) {
	p.t.Helper()
	if err := p.store.View(func(tx *fsm.Tx) error { s = tx.ByName(account, name); return nil }); err != nil {
		p.t.Fatal(err)
	}
	return s
}

func (p *proposed) alias(name string) (key string) {
	p.t.Helper()
	err := p.store.View(func(tx *fsm.Tx) error {
		if a := tx.Alias(account, name); a != nil {
			key = a.KeyID
		}
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return key
}

func refTo(name string) fsm.Ref { return fsm.Ref{Account: account, Name: name, Suffix: "AAAAAA"} }

func tag(name, value string) fsm.Command {
	return &fsm.TagSecret{Ref: refTo(name), At: 5, Tags: []secret.Tag{{Key: "k", Value: value}}}
}

// TestRepeatedIsCarriedOutOnce proposes commands again after others undid what they did: they are not carried out
// twice, and are answered as they were.
func TestRepeatedIsCarriedOutOnce(t *testing.T) {
	p := newProposed(t)
	key := func(id string) *fsm.CreateKey {
		material := []kms.Material{{ID: "0", Wrapped: []byte{1}}}
		return &fsm.CreateKey{Root: "r", Key: kms.Key{ID: id, Account: account, Spec: kms.Symmetric, Materials: material}}
	}
	alias := func(id string, at int64) *fsm.SetAlias {
		return &fsm.SetAlias{Ref: fsm.KeyRef{Account: account, ID: id}, At: at, Name: "alias/x", New: at == 0}
	}
	p.do("key 1", key("k1"))
	p.do("key 2", key("k2"))
	p.do("alias", alias("k2", 0))

	move := p.do("move", alias("k1", 1))
	p.do("move on", alias("k2", 2))
	if p.again(move); p.alias("alias/x") != "k2" {
		t.Errorf("an alias that was moved on is of %s", p.alias("alias/x"))
	}
	remove := p.do("remove", &fsm.DeleteAlias{Account: account, Name: "alias/x"})
	p.do("make anew", alias("k1", 0))
	if p.again(remove); p.alias("alias/x") != "k1" {
		t.Error("an alias that was made anew is gone")
	}

	create := p.do("create", &fsm.CreateSecret{Ref: refTo("a"), At: 1})
	p.do("delete", &fsm.DeleteNow{Ref: refTo("a")})
	if p.again(create); p.secret("a") != nil {
		t.Error("a secret that was deleted is there again")
	}

	p.do("create b", &fsm.CreateSecret{Ref: refTo("b"), At: 1})
	put := p.make("put", &fsm.PutVersion{
		Ref: refTo("b"), At: 2, Labels: []string{secret.Current, "x"},
		Version: fsm.NewVersion{ID: "version-1", KeyID: "k", WrappedKey: []byte{1}, Sealed: []byte{2}},
	})
	if twice := p.entry(put, put); len(twice[0].Labels) != 2 || !reflect.DeepEqual(twice[0], twice[1]) {
		t.Errorf("twice in one entry: %+v", twice)
	}
	first := p.do("tag", tag("b", "first"))
	for i := range 9 {
		p.do(fmt.Sprint("tag ", i), tag("b", fmt.Sprint(i)))
	}
	p.do("label", &fsm.MoveLabel{Ref: refTo("b"), At: 3, Label: "x", From: "version-1"})
	if p.again(first); p.secret("b").Tags[0].Value != "8" {
		t.Errorf("an old tag is back: %v", p.secret("b").Tags)
	}
	if out := p.again(put); len(out.Labels) != 2 || p.secret("b").Labels.On("x") != "" {
		t.Errorf("a put again: %+v, %v", out, p.secret("b").Labels)
	}
}

// TestOneIDOneCommand shows that of two commands under one id one is carried out: the second after the first was
// refused, and not after it was carried out.
func TestOneIDOneCommand(t *testing.T) {
	p := newProposed(t)
	early := p.make("id", tag("a", "early"))
	if err := p.entry(early)[0].Err(); !errors.Is(err, refusal.ErrConflict) {
		t.Fatal(err)
	}
	p.do("create", &fsm.CreateSecret{Ref: refTo("a"), At: 1})
	p.do("id", tag("a", "decided anew"))
	p.unknown(early)
	if got := p.secret("a").Tags[0].Value; got != "decided anew" {
		t.Errorf("the tag is %q", got)
	}
}

// TestLateIsNotCarriedOut shows that a command is not carried out when an entry that carried it out could be forgotten.
func TestLateIsNotCarriedOut(t *testing.T) {
	p := newProposed(t)
	p.do("create", &fsm.CreateSecret{Ref: refTo("a"), At: 1})
	within, beyond := p.make("within", tag("a", "within")), p.make("beyond", tag("a", "beyond"))
	p.index += fsm.Window - 1
	p.again(within)
	p.unknown(beyond)
	p.unknown(fsm.Encode(named("of the future"), p.index+1, tag("a", "of the future")))
	if got := p.secret("a").Tags[0].Value; got != "within" {
		t.Errorf("the tag is %q", got)
	}
}

// TestProposalsAreBounded shows that what was carried out is forgotten when the window has passed it.
func TestProposalsAreBounded(t *testing.T) {
	p := newProposed(t)
	p.do("create", &fsm.CreateSecret{Ref: refTo("a"), At: 1})
	for i := range 100 {
		p.do(fmt.Sprint(i), tag("a", "v"))
	}
	rows := func() uint64 {
		sum, err := fsm.ReadSnapshot(bytes.NewReader(p.snapshot()))
		if err != nil {
			t.Fatal(err)
		}
		return sum.Proposals
	}
	many := rows()
	p.index += fsm.Window
	for i := range 110 {
		p.do(fmt.Sprint("later ", i), tag("a", "v"))
	}
	if few := rows(); many < 100 || few > 112 {
		t.Errorf("%d rows of 100 entries, %d rows after the window has passed them and 110 came", many, few)
	}
}

// snapshot is the store's own, as Raft sends it.
func (p *proposed) snapshot() []byte {
	p.t.Helper()
	snapshot, err := p.store.OpenSnapshot()
	if err != nil {
		p.t.Fatal(err)
	}
	defer snapshot.Close()
	b, err := io.ReadAll(snapshot)
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

func (p *proposed) archive() []byte {
	p.t.Helper()
	var b bytes.Buffer
	if err := p.store.Save(&b); err != nil {
		p.t.Fatal(err)
	}
	return b.Bytes()
}

func (p *proposed) take(snapshot []byte) {
	p.t.Helper()
	if err := p.store.Restore(io.NopCloser(bytes.NewReader(snapshot))); err != nil {
		p.t.Fatal(err)
	}
}

// TestRestoredStateKnowsNoProposals restores an archive: commands made before are not carried out, neither before nor
// after the new epoch, and nothing is until it has begun.
func TestRestoredStateKnowsNoProposals(t *testing.T) {
	p := newProposed(t)
	p.do("create", &fsm.CreateSecret{Ref: refTo("a"), At: 1})
	old := p.do("old", tag("a", "old"))
	archive := p.archive()
	undone, waiting := p.do("undone", tag("a", "undone")), p.make("waiting", tag("a", "waiting"))
	p.take(archive)
	p.unknown(undone)
	p.unknown(waiting)
	p.unknown(fsm.Encode(named("between"), p.store.Applied(), tag("a", "between")))
	begin := fsm.Encode(named("begin"), p.store.Applied(), &fsm.BeginEpoch{At: 9})
	p.again(begin)
	p.again(begin)
	for _, c := range [][]byte{old, undone, waiting} {
		p.unknown(c)
	}
	if got := p.secret("a").Tags[0].Value; got != "old" {
		t.Errorf("the tag is %q", got)
	}
	p.do("new", tag("a", "new"))
	if p.again(p.do("newer", tag("a", "newer"))); p.secret("a").Tags[0].Value != "newer" {
		t.Error("the restored state takes no commands")
	}
}

// TestSnapshotKnowsProposals installs a region's own snapshot on another node: what was carried out before is not
// again.
func TestSnapshotKnowsProposals(t *testing.T) {
	p := newProposed(t)
	p.do("create", &fsm.CreateSecret{Ref: refTo("a"), At: 1})
	old := p.do("old", tag("a", "old"))
	p.do("new", tag("a", "new"))
	snapshot := p.snapshot()
	p.store = open(t, t.TempDir())
	p.take(snapshot)
	if p.again(old); p.secret("a").Tags[0].Value != "new" {
		t.Error("carried out again")
	}
}

// TestCarriedOutAtMostOnce proposes random commands: repeated, late, in any order, under the ids of others, over
// restarts, snapshots and restored archives. The state and the outcomes are those of a model that is given each id
// once.
func TestCarriedOutAtMostOnce(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		w := &atMostOnce{t: t, r: r, is: newProposed(t), model: newProposed(t), carried: map[string]carried{}}
		defer func() { _ = errors.Join(w.is.store.Close(), w.model.store.Close()) }()
		r.Repeat(map[string]func(*rapid.T){
			"make": w.make, "make other": w.other, "propose": w.propose, "propose more": w.propose, "restart": w.restart,
			"install": w.install, "save": w.save, "restore": w.restore, "check": w.check, "propose still more": w.propose,
		})
		w.check(r)
	})
}

type envelope struct {
	id      string
	base    uint64
	command fsm.Command
}

type carried struct {
	bytes []byte
	out   fsm.Outcome
}

type atMostOnce struct {
	t         *testing.T
	r         *rapid.T
	is, model *proposed
	waiting   []envelope
	carried   map[string]carried
	since     uint64
	restored  bool // and no epoch begun
	archive   []byte
	archived  uint64
}

func (w *atMostOnce) command(r *rapid.T) fsm.Command {
	seed := rapid.Uint64().Draw(r, "seed")
	return randomCommand(rand.New(rand.NewPCG(seed, 0)), int64(w.is.index))
}

func (w *atMostOnce) make(r *rapid.T) {
	w.waiting = append(w.waiting, envelope{fmt.Sprint("id ", len(w.waiting)), w.is.store.Applied(), w.command(r)})
}

func (w *atMostOnce) other(r *rapid.T) {
	if len(w.waiting) == 0 {
		r.Skip()
	}
	e := rapid.SampledFrom(w.waiting).Draw(r, "of")
	e.command = w.command(r)
	w.waiting = append(w.waiting, e)
}

func (w *atMostOnce) propose(r *rapid.T) {
	if len(w.waiting) == 0 {
		r.Skip()
	}
	steps := []uint64{0, 0, 0, 0, 0, 0, 1, fsm.Window / 3, fsm.Window - 1, fsm.Window, 2 * fsm.Window}
	w.skip(rapid.SampledFrom(steps).Draw(r, "skipped"))
	entry := rapid.SliceOfN(rapid.SampledFrom(w.waiting), 1, 4).Draw(r, "entry")
	encoded := make([][]byte, len(entry))
	var once [][]byte
	modelled := map[int]int{} // place in the entry -> place in the model's
	for i, e := range entry {
		encoded[i] = fsm.Encode(named(e.id), e.base, e.command)
	}
	index := w.is.index + 1
	got := w.is.entry(encoded...)
	for i, e := range entry {
		before, done := w.carried[e.id]
		late := w.restored || e.base >= index || index-e.base > fsm.Window || e.base < w.since
		switch {
		case done && bytes.Equal(before.bytes, encoded[i]):
			if known := reflect.DeepEqual(got[i], before.out); !known && !(late && got[i].Unknown != "") {
				r.Fatalf("%+v again: %+v, was %+v", e, got[i], before.out)
			}
		case done, late:
			if got[i].Unknown == "" {
				r.Fatalf("%+v was carried out: %+v", e, got[i])
			}
		default:
			modelled[i] = len(once)
			once = append(once, fsm.Encode(named(fmt.Sprint(index, " ", i)), w.model.store.Applied(), e.command))
			if got[i].Err() == nil {
				w.carried[e.id] = carried{encoded[i], got[i]}
			}
		}
	}
	want := w.model.entry(once...)
	for i, j := range modelled {
		if !reflect.DeepEqual(got[i], want[j]) {
			r.Fatalf("%+v: got %+v, the model %+v", entry[i], got[i], want[j])
		}
	}
}

// skip leaves indexes out, as entries do that are Raft's own. The model's commands are never late.
func (w *atMostOnce) skip(n uint64) {
	for _, p := range []*proposed{w.is, w.model} {
		p.index += n
	}
	if n > 0 {
		w.model.entry()
		w.is.entry()
	}
}

func (w *atMostOnce) restart(*rapid.T) {
	dir := w.t.TempDir()
	snapshot := w.is.snapshot()
	w.is.store = open(w.t, dir)
	w.is.take(snapshot)
	if err := w.is.store.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.is.store = open(w.t, dir)
}

func (w *atMostOnce) install(*rapid.T) { w.is.take(w.is.snapshot()) }

func (w *atMostOnce) save(r *rapid.T) {
	if w.restored {
		r.Skip()
	}
	w.archive, w.archived = w.is.archive(), w.is.index
}

func (w *atMostOnce) restore(r *rapid.T) {
	if w.archive == nil {
		r.Skip()
	}
	for _, p := range []*proposed{w.is, w.model} {
		p.take(w.archive)
	}
	w.carried, w.restored = map[string]carried{}, true
	if len(w.waiting) > 0 {
		w.propose(r)
	}
	for _, p := range []*proposed{w.is, w.model} {
		begin := fsm.Encode(named("begin"), p.store.Applied(), &fsm.BeginEpoch{At: int64(p.index)})
		if err := p.entry(begin)[0].Err(); err != nil {
			r.Fatal(err)
		}
	}
	w.restored, w.since = false, w.is.index
}

// check compares the archives: they have everything but what was proposed.
func (w *atMostOnce) check(r *rapid.T) {
	if is, model := w.is.archive(), w.model.archive(); !bytes.Equal(is, model) {
		a, b := describe(w.t, is), describe(w.t, model)
		r.Fatalf("the state differs from the model's:\n%s\n\n%s", a, b)
	}
}

func describe(t testing.TB, archive []byte) string {
	var lines []string
	sum, err := rows.ReadSnapshot(bytes.NewReader(archive), fsm.AllTables,
		func(table *rows.Table, key, payload []byte) error {
			lines = append(lines, fmt.Sprintf("%s %q %x", table.Name, key, payload))
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%+v\n%s", sum, strings.Join(lines, "\n"))
}
