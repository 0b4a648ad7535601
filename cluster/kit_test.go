package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"coffer/cluster"
	"coffer/cluster/pki"
	"coffer/fsm"
	"coffer/internal/testcluster"
	"coffer/kms"
)

const region = "us-east-1"

// group is the nodes of a region, all in this process.
type group struct {
	t   *testing.T
	dir string
	key []byte // of the gossip

	with func(*cluster.Config)             // changes the configuration of nodes that are added; may be nil
	skip func(id string) map[uint64]uint64 // log entries that a node gives up; may be nil
	disk func() error                      // the failing disk of all states ([fsm.Options]); may be nil

	calls []cluster.Call // that nodes answer besides
}

// newGroup begins a group. Its test runs beside others: most of their time they wait for elections.
func newGroup(t *testing.T) *group {
	t.Parallel()
	g := &group{t: t, dir: t.TempDir(), key: bytes.Repeat([]byte("k"), 32)}
	noError(t, pki.CreateAuthority(filepath.Join(g.dir, "ca"), time.Now()))
	return g
}

// credentials makes and reads a certificate of this group's authority.
func (g *group) credentials(role pki.Role, id string) *pki.Credentials {
	g.t.Helper()
	dir := filepath.Join(g.dir, string(role)+"-"+id)
	if err := pki.Issue(filepath.Join(g.dir, "ca"), dir, pki.Identity{Role: role, Region: region, ID: id},
		time.Now()); err != nil && !strings.Contains(err.Error(), "exists") {
		g.t.Fatal(err)
	}
	c, err := pki.Load(filepath.Join(dir, pki.CAFile), filepath.Join(dir, pki.CertFile), filepath.Join(dir, pki.KeyFile))
	noError(g.t, err)
	return c
}

// member is one node of a group.
type member struct {
	*cluster.Cluster
	g      *group
	config cluster.Config
	dir    string
	log    *lines
	end    func()
	left   chan error // why it left the cluster
}

// lines is what a node logs.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// add prepares a node that knows others, and starts it.
func (g *group) add(id string, expect int, others ...*member) *member {
	m := &member{g: g, dir: filepath.Join(g.dir, "data-"+id), log: &lines{}, left: make(chan error, 4)}
	m.config = cluster.Config{
		Dir: m.dir, Credentials: g.credentials(pki.Node, id), PeerAddr: "127.0.0.1:0", GossipAddr: freeAddr(g.t),
		GossipKeys:      func() [][]byte { return [][]byte{g.key} },
		BootstrapExpect: expect, RootKeyID: func() string { return "root" },
		Now: time.Now,
		Log: slog.New(slog.NewTextHandler(m.log, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", id),
	}
	for _, o := range others {
		m.config.Join = append(m.config.Join, o.config.GossipAddr)
	}
	if g.with != nil {
		g.with(&m.config)
	}
	m.start()
	g.t.Cleanup(func() {
		m.stop()
		if g.t.Failed() {
			g.t.Logf("the end of %s's log:\n%s", id, tail(m.log.String()))
		}
	})
	return m
}

func tail(s string) string { return s[max(0, len(s)-3000):] }

// open opens the state as a node does.
func (m *member) open() (*fsm.Store, error) {
	options := fsm.Options{Log: m.config.Log, OnDamage: func(err error) { m.g.t.Error(err) }, Fault: m.g.disk}
	if m.g.skip != nil {
		options.Skip = m.g.skip(m.config.Credentials.Identity.ID)
	}
	store, err := fsm.Open(m.dir, options)
	if err != nil {
		return nil, err
	}
	if abandoned, err := cluster.Abandoned(m.dir, store); err != nil || !abandoned {
		return store, err
	}
	if err := store.Close(); err != nil {
		return nil, err
	}
	if _, err := cluster.DiscardAbandoned(m.dir); err != nil {
		return nil, err
	}
	return fsm.Open(m.dir, options)
}

func (m *member) start() {
	m.g.t.Helper()
	noError(m.g.t, os.MkdirAll(m.dir, 0o700))
	store, err := m.open()
	noError(m.g.t, err)
	m.config.Store = store
	c := m.config
	if c.OnDamage == nil {
		c.OnDamage = func(err error) { m.g.t.Error(err) }
	}
	form := func(ctx context.Context) error {
		formed := false
		if err := store.View(func(tx *fsm.Tx) error { _, formed = tx.Cluster(); return nil }); formed || err != nil {
			return err
		}
		key := kms.Key{
			ID: "k", Account: "123456789012", Spec: kms.Symmetric, Materials: []kms.Material{{ID: "0", Wrapped: []byte{1}}},
		}
		_, err := m.Propose(ctx, fsm.Encode(named("init"), 0, &fsm.InitCluster{Key: key, Cluster: fsm.Cluster{
			ID: "state", Region: region, Account: "123456789012", RootKeyID: "root", DefaultKeyID: "k",
			Format: fsm.FirstFormat,
		}}))
		return err
	}
	c.OnDiverged = func(err error) { m.left <- err }
	c.OnRemoved = func(err error) { m.left <- err }
	m.Cluster, err = cluster.Start(c)
	noError(m.g.t, err)
	m.Begin(cluster.Above{Calls: m.g.calls, OnLeader: form, CheckRestore: func(string) error { return nil }})
	m.end = sync.OnceFunc(func() {
		m.Stop()
		noError(m.g.t, store.Close())
	})
}

func (m *member) stop() { m.end() }

// three starts three nodes that form a cluster.
func (g *group) three() []*member {
	g.t.Helper()
	a := g.add("n1", 3)
	nodes := []*member{a, g.add("n2", 3, a), g.add("n3", 3, a)}
	for _, m := range nodes {
		m.awaitReady()
	}
	return nodes
}

func (m *member) awaitReady() {
	m.g.t.Helper()
	m.await("to be ready", m.Ready)
}

func (m *member) await(what string, check func() error) {
	m.g.t.Helper()
	ctx, cancel := context.WithTimeout(m.g.t.Context(), time.Minute)
	defer cancel()
	noError(m.g.t, testcluster.Eventually(ctx, what, check))
}

// peer is the address of a node's peer port.
func (m *member) peer() string {
	peer, _, _ := m.Addresses()
	return peer
}

func leaderOf(nodes ...*member) (leader *member) {
	t := nodes[0].g.t
	t.Helper()
	nodes[0].await("a leader", func() error {
		for _, m := range nodes {
			if m.IsLeader() {
				leader = m
				return nil
			}
		}
		return errors.New("no node leads")
	})
	return leader
}

// call calls a peer port with a certificate, and returns the answer's status and body.
func (m *member) call(as *pki.Credentials, method, path string, body []byte, header ...string) (int, string, error) {
	return m.stream(as, method, path, bytes.NewReader(body), header...)
}

// stream is call with a body that comes by and by.
func (m *member) stream(
	as *pki.Credentials, method, path string, body io.Reader, header ...string,
) (int, string, error) {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: as.Client(region, m.config.Credentials.Identity.ID, "http/1.1"), DisableKeepAlives: true,
	}}
	req, err := http.NewRequestWithContext(m.g.t.Context(), method, "https://"+m.peer()+path, body)
	if err != nil {
		return 0, "", err
	}
	if as.Identity.Role == pki.Node {
		req.Header.Set(cluster.ClusterHeader, m.ID())
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func freeAddr(t *testing.T) string {
	t.Helper()
	addr, err := testcluster.FreeAddr()
	noError(t, err)
	return addr
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// named is a command's id with a name.
func named(name string) (id fsm.ID) {
	copy(id[:], name)
	return id
}

// write replicates a command through the node.
func (m *member) write(id string) error {
	_, err := m.Propose(m.g.t.Context(), fsm.Encode(named(id), m.config.Store.Applied(), &fsm.Checkpoint{}))
	if err != nil {
		return fmt.Errorf("%s: %w", m.config.Credentials.Identity.ID, err)
	}
	return nil
}
