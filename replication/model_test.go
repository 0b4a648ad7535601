package replication_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"coffer/cluster"
	"coffer/fsm"
	"coffer/internal/testregion"
	"coffer/replication"
	"coffer/secret"
	sm "coffer/secretsmanager"
)

// The model test runs random histories of writes, label moves, replication, promotion, hand-over, deletion and leader
// changes over three regions in this process. Between them is a network that loses questions and answers, and delivers
// again later what it has delivered or lost. After each step it holds every region's state against what may be.
var (
	seeds = flag.Int("seeds", 150, "random histories that TestModel runs")
	seed  = flag.Uint64("seed", 0, "run this one alone")
)

var names = []string{"us-east-1", "eu-west-1", "ap-south-1"}

// world is the regions and what is known to be true of them.
type world struct {
	t       *testing.T
	random  *rand.Rand
	ctx     context.Context
	regions map[string]*region
	late    []envelope // what the network may deliver again
	broken  float64    // chance that a call fails
	nested  bool

	meanwhile func() // is done once, while an answer is on its way
	holding   bool   // nothing that is sent arrives
	held      []envelope
	watch     func([]byte) // sees every question and answer
	watched   int

	trace []string

	// states are what a secret was in the region of its primary, by region, epoch, secret and revision.
	states map[stateKey]string
	// seen is the newest state of each replica.
	seen map[string]seen
	// owned is what each secret that is no replica is, by region and secret: nobody else may change it.
	owned map[string]string
	// forced are names whose secrets may be displaced: replication over them was forced.
	forced map[string]bool
	// promoted are secrets of which there may be two that are no replicas.
	promoted map[string]bool
}

// randomBytes makes ids part of a history.
type randomBytes struct{ random *rand.Rand }

func (r randomBytes) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(r.random.Uint32())
	}
	return len(b), nil
}

type stateKey struct {
	region, secret string
	epoch          int64
	revision       uint64
}

type seen struct {
	link     string
	epoch    int64
	revision uint64
}

type envelope struct {
	from, to, path string
	question       []byte
}

type region struct {
	*testregion.Region
	w       *world
	secrets *sm.Service
	agent   *replication.Agent
	term    uint64
	to      map[string]*replication.Stepper
}

// newAgent makes the region's agent, over a network.
func (r *region) newAgent(network replication.Cluster) *replication.Agent {
	return replication.New(r.Base, r.secrets, network, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, random: rand.New(rand.NewPCG(seed, 0)), ctx: t.Context(), regions: map[string]*region{},
		states: map[stateKey]string{}, seen: map[string]seen{}, owned: map[string]string{}, forced: map[string]bool{},
		promoted: map[string]bool{},
	}
	base := t.TempDir()
	if dir, err := os.MkdirTemp("/dev/shm", "coffer-model-"); err == nil { // in memory, where the machine has that
		base = dir
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
	}
	for _, name := range names {
		dir := filepath.Join(base, name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		r := &region{Region: testregion.NewIn(t, dir, name), w: w, term: 1}
		r.Base.Now, r.Base.Random = time.Now, randomBytes{w.random}
		r.secrets = sm.New(r.Base)
		r.agent = r.newAgent(r)
		w.regions[name] = r
		if err := r.agent.EnsureKey(w.ctx); err != nil {
			t.Fatal(err)
		}
		r.lead()
	}
	return w
}

// lead begins a term: couriers know nothing of the last one.
func (r *region) lead() {
	r.term++
	r.to = map[string]*replication.Stepper{}
	for _, other := range names {
		if other != r.Base.Region {
			r.to[other] = r.agent.Stepper(other, r.term)
		}
	}
}

// The network, as the agent of a region sees it.

func (r *region) LeaderTerm() uint64 { return r.term }

func (r *region) Regions() map[string][]cluster.RegionNode { return nil }

var errLost = errors.New("the network lost it")

func (r *region) CallRegion(ctx context.Context, to, path string, _ time.Duration, in, into any) error {
	w := r.w
	question, err := replication.Encode(in)
	if err != nil {
		return err
	}
	e := envelope{r.Base.Region, to, path, question}
	if w.watch != nil {
		w.watch(question)
	}
	if w.holding && replication.IsSend(path) {
		w.held = append(w.held, e)
		return errLost
	}
	lost := w.random.Float64() < w.broken
	if replication.IsSend(path) && w.random.IntN(3) == 0 {
		w.late = append(w.late, e)
	}
	if lost && w.random.IntN(2) == 0 {
		return errLost
	}
	answer, err := w.regions[to].agent.Answer(ctx, e.from, path, question)
	if w.watch != nil {
		w.watch(answer)
	}
	if do := w.meanwhile; do != nil {
		w.meanwhile = nil
		do()
	}
	if !w.nested && w.broken > 0 && w.random.IntN(3) == 0 { // while the answer is on its way
		w.nested = true
		w.record()
		w.act()
		w.nested = false
	}
	if err != nil || lost {
		return errors.Join(err, errLost)
	}
	return replication.Decode(answer, into)
}

func (r *region) ReachRegion(context.Context, string, string, time.Duration, any) error {
	return errLost
}

func (w *world) say(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *world) fatal(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("%s\nthe history:\n  %s", fmt.Sprintf(format, args...),
		strings.Join(w.trace[max(0, len(w.trace)-60):], "\n  "))
}

func (w *world) region() *region { return w.regions[names[w.random.IntN(len(names))]] }

func (w *world) pick(of ...string) *string { return &of[w.random.IntN(len(of))] }

// content is everything of a secret that its replicas have in common with it.
func (r *region) content(tx *fsm.Tx, s *secret.Secret) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %q %v %d %d", s.Suffix, s.Description, s.Tags, s.Created, s.Changed)
	for label, id := range s.Labels.All() {
		fmt.Fprintf(&b, " %s=%s", label, id)
	}
	return b.String()
}

func (r *region) key(s *secret.Secret) string { return s.Name + "-" + s.Suffix }

// record notes what primaries are.
func (w *world) record() {
	w.t.Helper()
	primaries := map[string]int{}
	for name, r := range w.regions {
		err := r.Store.View(func(tx *fsm.Tx) error {
			state, _ := tx.Cluster()
			tx.Secrets(fsm.List{Account: testregion.Account, Order: fsm.ByName}, func(s *secret.Secret) bool {
				if s.Primary == "" {
					if primaries[r.key(s)]++; primaries[r.key(s)] > 1 && !w.promoted[r.key(s)] {
						w.fatal("%s has two primaries", r.key(s))
					}
					w.states[stateKey{name, r.key(s), state.Epoch, s.Revision}] = r.content(tx, s)
				}
				return true
			})
			return nil
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// check holds the state of all regions against what may be.
func (w *world) check() {
	w.t.Helper()
	w.record()
	for name, r := range w.regions {
		err := r.Store.View(func(tx *fsm.Tx) error {
			present := map[string]bool{}
			tx.Secrets(fsm.List{Account: testregion.Account, Order: fsm.ByName}, func(s *secret.Secret) bool {
				id := name + "/" + r.key(s)
				present[id] = true
				got := r.content(tx, s)
				if s.Primary == "" {
					if want, known := w.owned[id]; known && want != got {
						w.fatal("%s was changed by somebody else:\n%s\n%s", id, want, got)
					}
					w.owned[id] = got
					delete(w.seen, id)
					return true
				}
				delete(w.owned, id)
				replica := tx.Replica(s)
				if replica.Revision == 0 {
					return true // it follows another primary, which has not sent yet
				}
				if tx.Ended(replica.Link) {
					w.fatal("%s follows a link that has ended", id)
				}
				was := w.seen[id]
				if was.link == replica.Link && was.epoch == replica.Epoch && replica.Revision < was.revision {
					w.fatal("%s went back from revision %d to %d", id, was.revision, replica.Revision)
				}
				w.seen[id] = seen{replica.Link, replica.Epoch, replica.Revision}
				want, known := w.states[stateKey{s.Primary, r.key(s), replica.Epoch, replica.Revision}]
				if !known {
					w.fatal("%s is at revision %d of epoch %d, which its primary in %s never had",
						id, replica.Revision, replica.Epoch, s.Primary)
				}
				if want != got {
					w.fatal("%s at revision %d is a mixture:\n%s\n%s", id, replica.Revision, want, got)
				}
				for label, version := range s.Labels.All() {
					v := tx.Version(s, version)
					if v == nil || tx.Value(s, v) == nil {
						w.fatal("%s has the label %s on a version that is missing", id, label)
					}
				}
				return true
			})
			for id := range w.owned {
				if strings.HasPrefix(id, name+"/") && !present[id] {
					name, suffix := id[len(name)+1:len(id)-secret.SuffixLen-1], id[len(id)-secret.SuffixLen:]
					aside := slices.ContainsFunc(tx.AllDisplaced(testregion.Account), func(d *secret.Secret) bool {
						return d.Suffix == suffix && r.content(tx, d) == w.owned[id]
					})
					if !w.forced[name] || !aside {
						w.fatal("%s is gone; displaced: %v", id, aside)
					}
					delete(w.owned, id)
				}
			}
			return nil
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// mine says that a region is about to change a secret on purpose.
func (w *world) mine(r *region, name string) {
	for id := range w.owned {
		if strings.HasPrefix(id, r.Base.Region+"/"+name+"-") {
			delete(w.owned, id)
		}
	}
}

// find is the secret with a name in a region, nil if there is none.
func (r *region) find(name string) (s *secret.Secret, replica *secret.Replica) {
	_ = r.Store.View(func(tx *fsm.Tx) error {
		if s = tx.ByName(testregion.Account, name); s != nil {
			replica = tx.Replica(s)
		}
		return nil
	})
	return s, replica
}

// act does one random thing.
func (w *world) act() {
	r := w.region()
	name := w.pick("a", "b", "c")
	ctx := r.Ctx()
	other := func() string {
		for {
			if n := *w.pick(names...); n != r.Base.Region {
				return n
			}
		}
	}
	var err error
	what := ""
	switch w.random.IntN(22) {
	case 0, 1, 2:
		in := &sm.CreateSecretInput{Name: name}
		in.SecretString, in.ClientRequestToken = w.value(), w.token()
		if w.random.IntN(2) == 0 {
			in.AddReplicaRegions = []sm.ReplicaRegion{{Region: new(string)}}
			*in.AddReplicaRegions[0].Region = other()
		}
		what = "create"
		_, err = r.secrets.CreateSecret(ctx, in)
	case 3, 4, 5, 6, 7:
		in := &sm.PutSecretValueInput{SecretID: name}
		in.SecretString, in.ClientRequestToken = w.value(), w.token()
		if w.random.IntN(4) == 0 {
			in.VersionStages = []string{*w.pick("AWSPENDING", "x")}
		}
		what = "put"
		w.mine(r, *name)
		_, err = r.secrets.PutSecretValue(ctx, in)
	case 8:
		if s, _ := r.find(*name); s != nil && s.Primary == "" && s.Labels.On(secret.Previous) != "" {
			what = "move AWSCURRENT back"
			w.mine(r, *name)
			from, to, label := s.Labels.On(secret.Current), s.Labels.On(secret.Previous), secret.Current
			_, err = r.secrets.UpdateSecretVersionStage(ctx, &sm.UpdateSecretVersionStageInput{
				SecretID: name, VersionStage: &label, RemoveFromVersionID: &from, MoveToVersionID: &to,
			})
		}
	case 9:
		what = "tag"
		w.mine(r, *name)
		_, err = r.secrets.TagResource(ctx, &sm.TagResourceInput{
			SecretID: name, Tags: []sm.Tag{{Key: w.pick("k", "l"), Value: w.value()}},
		})
	case 10, 11, 12:
		in := &sm.ReplicateSecretToRegionsInput{SecretID: name, AddReplicaRegions: []sm.ReplicaRegion{{Region: new(string)}}}
		*in.AddReplicaRegions[0].Region = other()
		what = "replicate to " + *in.AddReplicaRegions[0].Region
		if w.random.IntN(6) == 0 {
			force := true
			in.ForceOverwriteReplicaSecret = &force
			what += ", forced"
		}
		if _, err = r.secrets.ReplicateSecretToRegions(ctx, in); err == nil && in.ForceOverwriteReplicaSecret != nil {
			w.forced[*name] = true
		}
	case 13, 14:
		to := other()
		what = "remove from " + to
		_, err = r.secrets.RemoveRegionsFromReplication(ctx, &sm.RemoveRegionsFromReplicationInput{
			SecretID: name, RemoveReplicaRegions: []string{to},
		})
	case 15:
		what = "promote"
		if s, _ := r.find(*name); s != nil {
			w.promoted[r.key(s)] = true
		}
		_, err = r.secrets.StopReplicationToReplica(ctx, &sm.SecretIDInput{SecretID: name})
	case 16:
		what = "delete"
		force := true
		if s, _ := r.find(*name); s != nil && s.Primary == "" && len(s.Replicas) == 0 {
			w.mine(r, *name)
		}
		_, err = r.secrets.DeleteSecret(ctx, &sm.DeleteSecretInput{SecretID: name, ForceDeleteWithoutRecovery: &force})
	case 17:
		what = "schedule deletion and restore"
		w.mine(r, *name)
		if _, err = r.secrets.DeleteSecret(ctx, &sm.DeleteSecretInput{SecretID: name}); err == nil {
			_, err = r.secrets.RestoreSecret(ctx, &sm.SecretIDInput{SecretID: name})
		}
	case 18, 19:
		if s, _ := r.find(*name); s != nil {
			to := other()
			what = "hand over to " + to
			var done *replication.Done
			done, err = r.agent.Carry(ctx, &replication.Work{
				Do: replication.DoHandOver, Region: to,
				Tasks: []replication.Task{{Account: s.Account, Name: s.Name, Suffix: s.Suffix}},
			})
			if err == nil && done.Refused[0] != "" {
				err = errors.New(done.Refused[0])
			}
		}
	case 20:
		what = "another leader"
		r.lead()
	case 21:
		if w.nested {
			return
		}
		what = "compare"
		r.to[other()].Compare(w.ctx)
	}
	if what != "" {
		w.say("%s: %s %s: %v", r.Base.Region, what, *name, err)
	}
}

func (w *world) token() *string {
	var b [16]byte
	for i := range b {
		b[i] = byte(w.random.Uint32())
	}
	id := uuid.UUID(b).String()
	return &id
}

func (w *world) value() *string {
	v := fmt.Sprint(w.random.Uint64())
	return &v
}

// carry lets the couriers and the network do something.
func (w *world) carry() {
	if len(w.late) > 0 && w.random.IntN(3) == 0 {
		e := w.late[w.random.IntN(len(w.late))]
		w.say("late: %s to %s", e.from, e.to)
		_, _ = w.regions[e.to].agent.Answer(w.ctx, e.from, e.path, e.question)
		return
	}
	r := w.region()
	for _, to := range slices.Sorted(maps.Keys(r.to)) {
		if w.random.IntN(2) == 0 {
			r.to[to].Step(w.ctx)
		}
	}
}

// settle delivers everything: nothing is lost any more. What is refused may stay.
func (w *world) settle() {
	w.broken = 0
	for range 40 {
		time.Sleep(20 * time.Second) // refused links are tried again
		for _, from := range names {
			for _, to := range names {
				if from != to {
					_ = w.regions[from].to[to].Greet(w.ctx)
					for range 4 {
						w.regions[from].to[to].Step(w.ctx)
					}
				}
			}
		}
		w.check()
		if w.quiet() {
			return
		}
	}
	w.fatal("it does not come to rest")
}

// quiet reports whether nothing waits but links that were refused.
func (w *world) quiet() bool {
	quiet := true
	for _, r := range w.regions {
		_ = r.Store.View(func(tx *fsm.Tx) error {
			for _, to := range names {
				tx.Outbox(to, "", func(e fsm.OutboxEntry) bool {
					if e.Notice != nil {
						quiet = false
						return false
					}
					if l := tx.Link(to, tx.ByName(e.Ref.Account, e.Ref.Name)); l.Failed == "" {
						quiet = false
					}
					return quiet
				})
			}
			return nil
		})
	}
	return quiet
}

// converged holds replicas against their primaries, values included, when nothing is under way.
func (w *world) converged() {
	w.t.Helper()
	for from, r := range w.regions {
		_ = r.Store.View(func(tx *fsm.Tx) error {
			tx.Links("", func(to string, s *secret.Secret, l *secret.Link) bool {
				if l.Failed != "" || tx.Lag(to, s) != nil {
					return true
				}
				there := w.regions[to]
				replica, known := there.find(s.Name)
				if replica == nil || replica.Primary != from || known.Link != l.ID {
					w.fatal("%s in %s is in sync with %s, where there is no replica of it", s.Name, from, to)
				}
				if a, b := r.values(s.Name), there.values(s.Name); a != b {
					w.fatal("%s in %s and its replica in %s differ:\n%s\n%s", s.Name, from, to, a, b)
				}
				return true
			})
			return nil
		})
	}
}

// orphans finds replicas that nobody replicates to: their primary's region has no link with their link's id.
func (w *world) orphans() {
	w.t.Helper()
	for name, r := range w.regions {
		_ = r.Store.View(func(tx *fsm.Tx) error {
			for _, primary := range names {
				tx.Replicas(primary, func(s *secret.Secret, replica *secret.Replica) bool {
					if w.promoted[r.key(s)] {
						return true // while its primary role was on its way to here, perhaps
					}
					there, id := w.regions[primary], ""
					_ = there.Store.View(func(tx *fsm.Tx) error {
						if p := tx.ByName(s.Account, s.Name); p != nil {
							if l := tx.Link(name, p); l != nil {
								id = l.ID
							}
						}
						return nil
					})
					if id != replica.Link {
						w.fatal("%s in %s follows %s by the link %s; there it has the link %q", s.Name, name, primary, replica.Link, id)
					}
					return true
				})
			}
			return nil
		})
	}
}

// values are a secret's versions as clients read them.
func (r *region) values(name string) string {
	var out strings.Builder
	yes := true
	list, err := r.secrets.ListSecretVersionIds(r.Ctx(), &sm.ListSecretVersionIDsInput{
		SecretID: &name, IncludeDeprecated: &yes,
	})
	if err != nil {
		return err.Error()
	}
	for _, v := range list.Versions {
		got, err := r.secrets.GetSecretValue(r.Ctx(), &sm.GetSecretValueInput{SecretID: &name, VersionID: &v.VersionID})
		if err != nil {
			return err.Error()
		}
		fmt.Fprintln(&out, v.VersionID, v.VersionStages, v.CreatedDate, got.SecretString)
	}
	return out.String()
}

func history(t *testing.T, seed uint64) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed)
		w.broken = []float64{0, 0.2, 0.5}[w.random.IntN(3)]
		for range 150 {
			time.Sleep(time.Duration(w.random.IntN(3000)) * time.Millisecond)
			if w.random.IntN(2) == 0 {
				w.act()
			} else {
				w.carry()
			}
			w.check()
		}
		w.settle()
		w.converged()
		w.orphans()
		for _, e := range w.late { // and nothing that is late changes anything
			_, _ = w.regions[e.to].agent.Answer(w.ctx, e.from, e.path, e.question)
		}
		w.check()
		w.converged()
	})
}

// TestModel runs random histories. One that fails is run again with -seed.
func TestModel(t *testing.T) {
	if *seed != 0 {
		history(t, *seed)
		return
	}
	for i := range *seeds {
		t.Run(fmt.Sprintf("seed %d", i+1), func(t *testing.T) { history(t, uint64(i+1)) })
	}
}
