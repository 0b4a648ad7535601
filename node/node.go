package node

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"coffer/cluster"
	"coffer/cluster/pki"
	"coffer/fsm"
	"coffer/httpapi"
	"coffer/kms"
	kmsservice "coffer/kms/service"
	"coffer/replication"
	sm "coffer/secretsmanager"
	"coffer/serving"
)

// Options are what a node is given besides its configuration.
type Options struct {
	Log *slog.Logger
	Now func() time.Time
	// Version of the program, for metrics.
	Version string
	// Die ends the process at once: its data is damaged ([damage.Err]), or its disk does not take writes as it should.
	Die func(error)
}

// Node is a running node.
type Node struct {
	config      Config
	secrets     secrets
	roots       *roots
	options     Options
	log         *slog.Logger
	store       *fsm.Store
	cluster     *cluster.Cluster
	keyring     *serving.Keyring
	base        *serving.Base
	service     *sm.Service
	keys        *kmsservice.Service
	replication *replication.Agent
	server      *httpapi.Server
	clientCert  *pki.Reloading // of the client port; nil where it speaks no TLS
	listener    net.Listener
	stopping    chan struct{}
	noted       string     // why it was not ready when that was last logged; used by one job
	leaving     chan error // why it has to leave service
}

// Info is what a node writes into its data directory when it listens.
type Info struct {
	ID       string `json:"id"`
	PID      int    `json:"pid"`
	Endpoint string `json:"endpoint"`
	Peer     string `json:"peer"`
	Gossip   string `json:"gossip"`
	Regions  string `json:"region_gossip,omitempty"`
}

// InfoFile is the name of Info's file in a data directory.
const InfoFile = "node.json"

// Start brings a node up: it listens when Start returns, and Run serves until it is told to stop.
func Start(c Config, o Options) (_ *Node, err error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	n := &Node{config: c, options: o, stopping: make(chan struct{}), leaving: make(chan error, 1)}
	if err := checkMarks(c.Data); err != nil {
		return nil, err
	}
	if err := setAside(c.Data, o.Now()); err != nil {
		return nil, fmt.Errorf("keep the state that differs aside: %w", err)
	}
	if n.secrets, err = c.load(); err != nil {
		return nil, err
	}
	id := n.secrets.peer.Identity
	n.log = o.Log.With("node", id.ID, "region", id.Region)
	n.secrets.logTo(n.log)
	n.roots = &roots{n: n}
	n.keyring = serving.NewKeyring(n.roots.follow)
	if err := n.roots.openConfigured(context.Background()); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return nil, fmt.Errorf("create the data directory: %w", err)
	}
	_ = os.Remove(filepath.Join(c.Data, InfoFile)) // of the last run
	registry := prometheus.NewRegistry()
	timings := newTimings(registry)
	if n.store, err = n.openStore(timings); err != nil {
		return nil, n.mark(err)
	}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if err := n.checkState(); err != nil {
		return nil, err
	}
	clientTLS, err := n.clientTLS()
	if err != nil {
		return nil, err
	}
	if n.listener, err = n.listen(); err != nil {
		return nil, err
	}
	if c.Endpoint == "" {
		n.config.Endpoint = n.scheme() + "://" + n.listener.Addr().String()
	}
	removeDead, err := c.removeDead()
	if err != nil {
		return nil, err
	}
	n.cluster, err = cluster.Start(cluster.Config{
		NonVoter: c.NonVoter, RemoveDead: removeDead, ElectionTimeout: c.ElectionTimeout, Now: o.Now,
		MaxClockOffset: c.MaxClockOffset,
		Dir:            c.Data, Store: n.store, Credentials: n.secrets.peer,
		PeerAddr: c.Peer, PeerAdvertise: c.PeerAdvertise, GossipAddr: c.Gossip, GossipAdvertise: c.GossipAdvertise,
		GossipKeys: n.secrets.gossipKeys.get, Join: c.Join, BootstrapExpect: c.BootstrapExpect, Endpoint: n.config.Endpoint,
		Regions: cluster.RegionsConfig{
			GossipAddr: c.RegionGossip, GossipAdvertise: c.RegionGossipAdvertise, GossipKeys: n.secrets.regionGossip(),
			Join: c.RegionJoin, PeerAdvertise: c.RegionPeerAdvertise,
		},
		DiskFree: func() (uint64, bool) {
			free, size := space(c.Data)
			return uint64(free), size > 0
		},
		RootKeyID: n.rootKeyID, OnDamage: n.damaged, OnRemoved: n.wasRemoved, OnDiverged: n.diverged, OnFatal: n.fatal,
		OnHung: n.hung, Log: n.log,
		Observe: cluster.Observe{
			LogWritten: by(timings.logWrite), Committed: by(timings.commit), ReadBarrier: by(timings.barrier),
		},
	})
	if err != nil {
		return nil, n.mark(err)
	}
	n.base = serving.New(id.Region, n.store, n.cluster, n.keyring, o.Now, rand.Reader)
	n.service, n.keys = sm.New(n.base), kmsservice.New(n.base)
	n.replication = replication.New(n.base, n.service, n.cluster, n.log, registry)
	n.cluster.Begin(cluster.Above{
		Calls: n.calls(), RegionCalls: n.replication.Calls(), OnLeader: n.initialize, CheckRestore: n.checkRestore,
	})
	n.server = httpapi.New(httpapi.Config{
		Region: id.Region, Secrets: n.service, Keys: n.keys, Access: n.secrets.credentials,
		Ready: func() string { return class(n.ready()) }, Warnings: n.warnings,
		TLS: clientTLS, Limits: c.limits(), Registry: registry, Log: n.log, Now: o.Now,
	})
	n.registerMetrics(registry)
	if err := n.writeInfo(); err != nil { // a full disk keeps no node from starting
		n.log.Error("operators' commands on this machine won't find this node", "error", err)
	}
	return n, nil
}

// moreCalls are calls that builds for tests add.
var moreCalls = func(*Node) []cluster.Call { return nil }

// calls are what the peer port answers besides the cluster's own calls.
func (n *Node) calls() []cluster.Call {
	return slices.Concat(n.roots.calls(), n.regionCalls(), moreCalls(n))
}

// openStore opens the state, or an empty one if what is there is of a restore that was abandoned. Opening it shows that
// no other process uses the directory.
func (n *Node) openStore(timings *timings) (*fsm.Store, error) {
	skip, err := n.config.skipped()
	if err != nil {
		return nil, err
	}
	dir := n.config.Data
	options := fsm.Options{
		Log: n.log, OnDamage: n.damaged, OnFatal: n.fatal, Skip: skip,
		Flushed: by(timings.flush), Saved: by(timings.snapshot),
	}
	store, err := fsm.Open(dir, options)
	if err != nil {
		return nil, err
	}
	if abandoned, err := cluster.Abandoned(dir, store); err != nil {
		return nil, errors.Join(err, store.Close())
	} else if !abandoned {
		return store, nil
	}
	if err := store.Close(); err != nil {
		return nil, err
	}
	aside, err := cluster.DiscardAbandoned(dir)
	if err != nil {
		return nil, fmt.Errorf("discard the data of an abandoned restore: %w", err)
	}
	n.log.Warn("this node was lost while it led a restore: it takes the state of the region from the others. What it had"+
		" was moved aside and can be deleted", "to", aside)
	return fsm.Open(dir, options)
}

// checkState refuses to start over a state that this node's root key, region or account does not fit.
func (n *Node) checkState() error {
	c, formed, err := n.formed()
	if err != nil || !formed {
		return err
	}
	n.roots.follow(context.Background())
	return n.fits(c)
}

func (n *Node) fits(c fsm.Cluster) error {
	if err := fsm.Formats().Check(c.Format); err != nil {
		return err
	}
	switch id := n.secrets.peer.Identity; {
	case c.Region != id.Region:
		return fmt.Errorf("the stored state is of region %s, this node's certificate is for %s", c.Region, id.Region)
	case c.Account != n.secrets.credentials.AccountID:
		return fmt.Errorf("the stored state is of account %s, the root credentials are of %s",
			c.Account, n.secrets.credentials.AccountID)
	}
	if root, _ := n.roots.state(); root != nil && n.keyring.Root(c.RootKeyID) == nil {
		return fmt.Errorf("the root key is not the one that the stored state is encrypted under: "+
			"wanted the key with id %s, found %s in %s", c.RootKeyID, root.ID(), n.config.RootKey)
	}
	return nil
}

// rootKeyID is the id of the root key that the region's keys are under, or that they will be under once this node
// forms the region; empty while it is sealed.
func (n *Node) rootKeyID() string {
	if c, formed, err := n.formed(); err == nil && formed && n.keyring.Root(c.RootKeyID) != nil {
		return c.RootKeyID
	}
	if root, _ := n.roots.state(); root != nil {
		return root.ID()
	}
	return ""
}

// checkRestore decides whether an archive can become this cluster's state: whole, of this region and
// account, and encrypted under this root key.
func (n *Node) checkRestore(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	sum, err := fsm.ReadSnapshot(f)
	switch {
	case err != nil:
		return err
	case sum.Proposals > 0:
		return errors.New("this is a snapshot that a node keeps for its own region, not an archive of `coffer snapshot save`")
	}
	if err := n.fits(sum.Cluster); err != nil {
		return err
	}
	if n.keyring.Root(sum.Cluster.RootKeyID) == nil {
		return fmt.Errorf("the archive is encrypted under the root key %s, which this node has not been given",
			sum.Cluster.RootKeyID)
	}
	return nil
}

// initialize forms, on the leader, the state of a new cluster: who it is, and its default key. It needs a root key.
func (n *Node) initialize(ctx context.Context) error {
	root, _ := n.roots.state()
	_, formed, err := n.formed()
	if err != nil {
		return err
	}
	if formed {
		return n.beginEpoch(ctx)
	}
	if root == nil {
		return nil
	}
	now := n.options.Now().UnixMilli()
	account := n.secrets.credentials.AccountID
	key, err := kms.NewKey(ctx, root, account, kms.Symmetric, now, rand.Reader)
	if err != nil {
		return err
	}
	key.Manage("Default key that protects secrets for which no other key was chosen")
	id := uuid.New()
	_, err = n.cluster.Propose(ctx, fsm.Encode(fsm.ID(id), n.store.Applied(), &fsm.InitCluster{
		Key: key, Cluster: fsm.Cluster{
			ID: n.cluster.ID(), Format: fsm.Formats().Newest, Region: n.secrets.peer.Identity.Region, Account: account,
			RootKeyID: root.ID(), Created: now, Epoch: now, DefaultKeyID: key.ID,
		},
	}))
	return err
}

// beginEpoch begins the epoch of a state that was restored from an archive, if the leader that restored it was lost
// before it did.
func (n *Node) beginEpoch(ctx context.Context) error {
	begun := false
	err := n.store.View(func(tx *fsm.Tx) error {
		begun = tx.EpochBegun()
		return nil
	})
	if err != nil || begun {
		return err
	}
	_, err = n.base.Propose(ctx, &fsm.BeginEpoch{At: n.options.Now().UnixMilli()})
	return err
}

// ready says why this node can't serve reads and writes, with a [cluster.NotReady].
func (n *Node) ready() error {
	select {
	case <-n.stopping:
		return &cluster.NotReady{Class: cluster.Stopping, Why: errors.New("this node is stopping")}
	default:
	}
	if err := n.roots.sealed(); err != nil {
		return &cluster.NotReady{Class: cluster.Sealed, Why: err}
	}
	if err := n.cluster.Ready(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := n.base.Warm(ctx); err != nil {
		return &cluster.NotReady{Class: cluster.Sealed, Why: err}
	}
	return nil
}

// class is what anyone may know of what [Node.ready] returns, empty if the node is ready.
func class(err error) string {
	var why *cluster.NotReady
	if errors.As(err, &why) {
		return why.Class
	}
	return ""
}

// warnings are classes of what is wrong though this node serves: anyone may read them, so the status and the log
// have the rest.
func (n *Node) warnings() []string {
	if _, err := n.cluster.Time(); err != nil {
		return []string{"clock"}
	}
	return nil
}

func (n *Node) scheme() string {
	if n.config.TLSCert != "" {
		return "https"
	}
	return "http"
}

func (n *Node) listen() (net.Listener, error) {
	l, err := net.Listen("tcp", n.config.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for clients: %w", err)
	}
	return l, nil
}

// clientTLS is how the client port speaks TLS; nil where it does not.
func (n *Node) clientTLS() (*tls.Config, error) {
	if n.config.TLSCert == "" {
		return nil, nil
	}
	n.clientCert = &pki.Reloading{CertFile: n.config.TLSCert, KeyFile: n.config.TLSKey, Log: n.log}
	if _, err := n.clientCert.Get(); err != nil {
		return nil, fmt.Errorf("the client port's certificate: %w", err)
	}
	get := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return n.clientCert.Get() }
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: get}, nil
}

func (n *Node) writeInfo() error {
	peer, gossip, regions := n.cluster.Addresses()
	b, err := json.Marshal(Info{n.secrets.peer.Identity.ID, os.Getpid(), n.config.Endpoint, peer, gossip, regions})
	if err != nil {
		return err
	}
	path := filepath.Join(n.config.Data, InfoFile)
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// drainTimeout bounds how long a stopping node waits for requests in flight.
const drainTimeout = 20 * time.Second

// Run serves until ctx ends, then stops in order: it says that it is not ready, hands over leadership,
// finishes requests in flight, and closes everything.
func (n *Node) Run(ctx context.Context) error {
	jobs, stopJobs := context.WithCancel(context.Background())
	defer stopJobs()
	var g errgroup.Group
	g.Go(func() error { return n.server.Serve(n.listener) })
	n.startJobs(jobs, &g)
	n.log.Info("serving", "endpoint", n.config.Endpoint)

	served := make(chan error, 1)
	go func() { served <- g.Wait() }()
	select {
	case <-ctx.Done():
	case why := <-n.leaving:
		n.log.Error("this node leaves service", "error", why)
		close(n.stopping)
		n.cluster.StepDown()
		err := n.stopServing()
		stopJobs()
		err = errors.Join(why, err, <-served)
		n.close()
		return err
	case err := <-served:
		n.close()
		return err
	}
	n.log.Info("stopping")
	close(n.stopping)
	n.cluster.StepDown()
	drain, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	flush, cancelFlush := context.WithTimeout(drain, time.Second)
	defer cancelFlush()
	if err := n.service.FlushAccess(flush); err != nil {
		n.log.Warn("stopping", "error", err)
	}
	err := n.server.Shutdown(drain)
	stopJobs()
	err = errors.Join(err, <-served)
	n.close()
	n.log.Info("stopped")
	return err
}

func (n *Node) close() {
	if n.cluster != nil {
		n.cluster.Stop()
	}
	if n.listener != nil {
		_ = n.listener.Close()
	}
	if err := n.store.Close(); err != nil {
		n.log.Warn("close the state store", "error", err)
	}
}

// damaged marks the data directory, so that it is not used again, and ends the process: nothing of what it
// holds may be served.
func (n *Node) damaged(err error) {
	n.options.Die(n.mark(err))
}

// fatal ends the process at once after a write that failed. The data is not marked: what is on the disk is right, and a
// new start begins from there.
func (n *Node) fatal(err error) { n.options.Die(err) }

// hung ends the process when a write to its disk does not end.
func (n *Node) hung(err error) {
	cutOff()
	n.options.Die(err)
}

func (n *Node) mark(err error) error {
	if !errors.Is(err, fsm.ErrDamaged) {
		return err
	}
	path := filepath.Join(n.config.Data, damagedFile)
	what := fmt.Sprintf("%s: %v\n", n.options.Now().UTC().Format(time.RFC3339), err)
	if writeErr := os.WriteFile(path, []byte(what), 0o600); writeErr != nil {
		return errors.Join(err, writeErr)
	}
	return err
}
