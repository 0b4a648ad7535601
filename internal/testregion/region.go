// Package testregion is a region without a cluster, for tests of services: commands are applied at once to a store of
// one, and the clock stands still until it is moved.
package testregion

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"coffer/fsm"
	"coffer/iam"
	"coffer/kms"
	"coffer/kms/rootkey"
	"coffer/serving"
)

// Account is the region's account.
const Account = "123456789012"

// Region is a formed region. Its Base serves services.
type Region struct {
	*serving.Base
	Clock time.Time
	Root  rootkey.Provider

	mu    sync.Mutex
	index uint64
}

// New forms a region whose root key is known.
func New(t testing.TB) *Region { return NewIn(t, t.TempDir(), "us-east-1") }

// NewIn forms a region with a name, whose store is in dir.
func NewIn(t testing.TB, dir, name string) *Region {
	t.Helper()
	store, err := fsm.Open(dir, fsm.Options{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	r := &Region{Clock: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)}
	r.Base = serving.New(name, store, r, serving.NewKeyring(nil), func() time.Time { return r.Clock }, rand.Reader)
	if r.Root, err = rootkey.New(make([]byte, 32)); err != nil {
		t.Fatal(err)
	}
	r.Keyring.AddRoot(r.Root)
	key, err := kms.NewKey(t.Context(), r.Root, Account, kms.Symmetric, r.Clock.UnixMilli(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key.Manage("default")
	cluster := fsm.Cluster{ID: "c", Region: name, Epoch: 1, Account: Account, DefaultKeyID: key.ID, RootKeyID: r.Root.ID()}
	if _, err := r.Propose(t.Context(), r.encode(&fsm.InitCluster{Key: key, Cluster: cluster})); err != nil {
		t.Fatal(err)
	}
	return r
}

// Ctx is a call by the account's root.
func (r *Region) Ctx() context.Context {
	return serving.WithCall(context.Background(), &serving.Call{Principal: iam.Root(Account)})
}

func (r *Region) encode(c fsm.Command) []byte {
	var id fsm.ID
	rand.Read(id[:]) // never fails (crypto/rand)
	return fsm.Encode(id, r.Store.Applied(), c)
}

// Propose applies a command at once. What a leader would not propose is an error.
func (r *Region) Propose(_ context.Context, command []byte) (fsm.Outcome, error) {
	d, err := fsm.Decode(command)
	if err != nil {
		return fsm.Outcome{}, err
	}
	if err := fsm.Check(d.Command); err != nil {
		return fsm.Outcome{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.index++
	switch out := r.Store.Apply(&raft.Log{
		Index: r.index, Term: 1, Type: raft.LogCommand, Data: fsm.EncodeEntry([][]byte{command}),
	}).(type) {
	case []fsm.Outcome:
		return out[0], nil
	case error:
		return fsm.Outcome{}, out
	}
	return fsm.Outcome{}, errors.New("the entry was applied before")
}

// ReadBarrier is always reached.
func (r *Region) ReadBarrier(context.Context) error { return nil }

// StaleFor is always nothing.
func (r *Region) StaleFor() time.Duration { return 0 }

// KnowsRegion knows every region.
func (r *Region) KnowsRegion(string) bool { return true }

// Restore replaces the state by that of an archive, as an operator does.
func (r *Region) Restore(archive []byte) error {
	if err := r.Install(archive); err != nil {
		return err
	}
	_, err := r.Propose(context.Background(), r.encode(&fsm.BeginEpoch{At: r.Millis()}))
	return err
}

// Snapshot is the region's own snapshot, as Raft sends it.
func (r *Region) Snapshot(t testing.TB) []byte {
	t.Helper()
	snapshot, err := r.Store.OpenSnapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer snapshot.Close()
	b, err := io.ReadAll(snapshot)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Install replaces the state by that of a snapshot, and tells nobody: as Raft does, or damage that goes unnoticed.
func (r *Region) Install(snapshot []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Store.Restore(io.NopCloser(bytes.NewReader(snapshot)))
}

// OtherRoot is another root key than the regions'.
func OtherRoot(t testing.TB) rootkey.Provider {
	t.Helper()
	key := make([]byte, 32)
	key[0] = 1
	root, err := rootkey.New(key)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// WithRoot is the region as a node sees it that has only the root key root, and has unwrapped nothing yet.
func WithRoot(r *Region, root rootkey.Provider) *serving.Base {
	base := *r.Base
	base.Keyring = serving.NewKeyring(nil)
	base.Keyring.AddRoot(root)
	return &base
}
