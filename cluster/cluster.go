package cluster

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"coffer/cluster/clocks"
	"coffer/cluster/pki"
	"coffer/cluster/quorum"
	"coffer/cluster/raftlog"
	"coffer/cluster/readindex"
	"coffer/fsm"
)

// Config of a node's part in the cluster.
type Config struct {
	Dir         string           // data directory
	Store       *fsm.Store       // the replicated state
	Credentials *pki.Credentials // who this node is

	PeerAddr        string // host:port to listen on
	PeerAdvertise   string // host:port that others reach it by; PeerAddr's if empty
	GossipAddr      string
	GossipAdvertise string
	// GossipKeys are common to the nodes of a region, any length from 32 bytes each: the first is the one to encrypt with.
	// They may change.
	GossipKeys      func() [][]byte
	Join            []string      // gossip addresses of other nodes
	BootstrapExpect int           // nodes that form a new cluster; 0 only joins
	Endpoint        string        // URL of this node's client port, told to others
	ElectionTimeout time.Duration // see [CheckElectionTimeout]; [DefaultElectionTimeout] if 0
	NonVoter        bool          // this node never becomes a voter: it answers reads, and counts for nothing

	RemoveDead quorum.RemoveDead // when servers that do not answer are removed

	Regions RegionsConfig // how this region finds the others

	Now            func() time.Time // the wall clock
	MaxClockOffset time.Duration    // between nodes, for what can't be undone; clocks.DefaultBound if 0

	// RootKeyID is the id of the root key that the region's keys are wrapped under, as far as this node has it; empty
	// while it is sealed. Nodes with another one are refused.
	RootKeyID func() string

	// DiskFree is how many bytes are left on the disk of Dir, false where that is not known. It may be nil.
	DiskFree func() (bytes uint64, known bool)

	// OnDamage is called with what is damaged.
	OnDamage func(error)
	// OnFatal is called with what ends this node at once: a write of the Raft log that failed, or a restore that was
	// abandoned.
	OnFatal func(error)
	// OnHung is called with a write of the Raft log that does not end: the process must cut its connections, then end.
	OnHung func(error)
	// OnDiverged is called, with an error that wraps ErrDiverged, when a majority of the voters has another state than
	// this node: it has to leave service, and to take everything anew.
	OnDiverged func(error)
	// OnRemoved is called once, with an error that wraps ErrRemoved, when this node finds that it was removed.
	OnRemoved func(error)

	Observe Observe

	Log *slog.Logger
}

// Observe are called with how long things took. They must not block, and may be nil.
type Observe struct {
	LogWritten  func(time.Duration) // a write of the Raft log, its sync included
	Committed   func(time.Duration) // a batch of commands, on the leader: until it was applied there
	ReadBarrier func(time.Duration) // that was reached
}

func observe(by func(time.Duration), began time.Time) {
	if by != nil {
		by(time.Since(began))
	}
}

const (
	commitTimeout     = 10 * time.Millisecond // a follower learns of a commit at most this late
	gossipTimeout     = 2 * time.Second
	peerTimeout       = 3 * time.Second
	membershipTimeout = 10 * time.Second
)

// Snapshots and the log that is kept behind them.
const (
	snapshotThreshold = 8192
	trailingLogs      = 4096
	cachedEntries     = 64
)

// Cluster is this node's part in its region's cluster.
type Cluster struct {
	config Config
	above  Above // from Begin on
	id     string
	log    *slog.Logger

	gossip    *gossip
	regions   *regions // nil where none are configured
	snapshots *snapshots
	peers     *peerPort
	client    *http.Client // to other nodes' peer ports
	logs      *raftlog.Log
	proposer  *proposer
	barrier   *readindex.Barrier
	kept      *readindex.Kept
	timing    timing
	started   time.Time // when [Start] was called
	judge     *clocks.Judge
	applies   *applyWatch

	raft        atomic.Pointer[raft.Raft]
	established atomic.Uint64 // the term in which this node leads and has applied all earlier terms; 0 otherwise
	leadership  chan bool
	caughtUp    atomic.Bool // with the leader, once since the start
	restoring   restoring
	discarded   bool // this node has no data since it discarded them, and was not taken in since

	membership chan struct{} // holds one while this leader takes a node in, and while it asks all members for something

	circle *circle
	book   *book

	promising sync.Mutex             // held while this node promises itself, or becomes part of a cluster
	unformed  atomic.Pointer[string] // why it is not part of one yet
	deniedBy  atomic.Pointer[string] // members that do not count this node as one, while they are too few to be believed
	removed   sync.Once
	uploading sync.Mutex                          // held while an archive is received and restored
	examining sync.Mutex                          // held while this node looks into whether its state differs
	foreign   atomic.Pointer[map[string][]string] // other clusters of this region

	begin  func()
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// Start opens this node's log, its peer port and gossip. Begin comes after it.
func Start(c Config) (_ *Cluster, err error) {
	c.MaxClockOffset = cmp.Or(c.MaxClockOffset, clocks.DefaultBound)
	n := &Cluster{
		config: c, id: c.Credentials.Identity.ID, log: c.Log, leadership: make(chan bool, 8), started: time.Now(),
		membership: make(chan struct{}, 1),
	}
	n.timing = timingOf(c.ElectionTimeout)
	n.applies = &applyWatch{applying: c.Store.Applying, log: c.Log}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	defer func() {
		if err != nil {
			n.Stop()
		}
	}()
	if err := n.open(); err != nil {
		return nil, err
	}
	if n.peers, err = listenPeers(n); err != nil {
		return nil, err
	}
	n.client = n.peers.client()
	self := meta{Peer: n.peers.advertised(), Endpoint: c.Endpoint, Expect: n.config.BootstrapExpect}
	if n.gossip, err = startGossip(regionPool(c), self); err != nil {
		return nil, err
	}
	if c.Regions.GossipAddr != "" {
		if n.regions, err = startRegions(c, self, n.peers.dialed); err != nil {
			return nil, err
		}
	}
	n.proposer = newProposer(n.proposeBatch, n.leads, n.log)
	n.barrier = newBarrier(n)

	member, err := n.hasEntries()
	if err != nil {
		return nil, err
	}
	if member {
		if err := n.startRaft(); err != nil {
			return nil, err
		}
	}
	n.begin = func() { n.runAll(ctx, member) }
	return n, nil
}

// Above is what the rooms above, which stand on a node's cluster, do for it.
type Above struct {
	// Calls are what the peer port answers besides the calls of this package.
	Calls []Call
	// RegionCalls are what it answers to nodes of other regions.
	RegionCalls []Call
	// OnLeader is called when this node has become leader and has applied all that was committed before.
	OnLeader func(context.Context) error
	// CheckRestore decides whether a verified archive may become this cluster's state.
	CheckRestore func(archive string) error
}

// Begin begins to take part: with the data that this node has, or else by forming or joining a cluster in the
// background.
func (n *Cluster) Begin(above Above) {
	n.above = above
	n.begin()
}

func (n *Cluster) run(ctx context.Context, f func(context.Context)) {
	n.done.Add(1)
	go func() {
		defer n.done.Done()
		f(ctx)
	}()
}

// hasEntries reports whether this node has anything of a cluster's log. One that joined, and was stopped before the
// first entry came, joins again.
func (n *Cluster) hasEntries() (bool, error) {
	last, err := n.logs.LastIndex()
	if err != nil {
		return false, fmt.Errorf("read the Raft log: %w", err)
	}
	return last > 0 || n.config.Store.Durable().Through > 0, nil
}

func (n *Cluster) raftConfig() *raft.Config {
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(n.id)
	rc.HeartbeatTimeout = n.timing.election
	rc.ElectionTimeout = n.timing.election
	rc.LeaderLeaseTimeout = n.timing.lease
	rc.CommitTimeout = commitTimeout
	rc.SnapshotThreshold = snapshotThreshold
	rc.TrailingLogs = trailingLogs
	rc.BatchApplyCh = true
	rc.NotifyCh = n.leadership
	rc.Logger = raftLogger(n.log)
	return rc
}

func (n *Cluster) startRaft() error {
	rc := n.raftConfig()
	rc.NoSnapshotRestoreOnStart = true // the snapshot is the state, which is durable
	if err := n.snapshots.verify(); err != nil {
		return fmt.Errorf("read the Raft log: %w", err)
	}
	cache, err := raft.NewLogCache(cachedEntries, n.logs)
	if err != nil {
		return err
	}
	r, err := raft.NewRaft(rc, machine{n.config.Store, n}, cache, n.logs, n.snapshots, n.peers.raftTransport())
	if err != nil {
		return fmt.Errorf("start Raft: %w", err)
	}
	n.raft.Store(r)
	n.gossip.set(func(m *meta) { m.Cluster = n.logs.ClusterID() })
	return nil
}

// watchLeadership marks this node as an established leader once it has applied what was committed before
// its term, and tells OnLeader.
func (n *Cluster) watchLeadership(ctx context.Context) {
	for {
		select {
		case leads := <-n.leadership:
			n.established.Store(0)
			if leads {
				n.establish(ctx)
			} else if abandoned, err := Abandoned(n.config.Dir, n.config.Store); err == nil && abandoned {
				n.abandon(raft.ErrLeadershipLost)
			}
		case <-ctx.Done():
			return
		}
	}
}

func (n *Cluster) establish(ctx context.Context) {
	r := n.raft.Load()
	term := r.CurrentTerm()
	if err := n.awaitBarrier(ctx, r, term); err != nil {
		n.log.Info("leadership was lost before it began", "term", term, "error", err)
		return
	}
	if err := n.awaitOpen(ctx, r, term); err != nil {
		n.log.Info("leadership was lost before a stopped store could be read", "term", term, "error", err)
		return
	}
	// A leader that restored an archive may have been lost in between.
	if begun, err := n.epochBegun(); err != nil {
		return // damage is reported by the store
	} else if !begun {
		if err := n.beginEpoch(ctx, r); err != nil {
			n.log.Error("the epoch of a restored state could not be begun", "error", err)
			return
		}
	}
	if err := n.awaitVoters(ctx, r); err != nil {
		n.log.Info("leadership was lost before the cluster was whole", "term", term, "error", err)
		return
	}
	if err := n.finishRecovery(ctx, r); err != nil {
		n.log.Info("leadership was lost before the recovered region had begun its epoch", "term", term, "error", err)
		return
	}
	n.established.Store(term)
	n.log.Info("this node leads the region", "term", term)
	if err := n.above.OnLeader(ctx); err != nil {
		n.log.Error("the new leader could not prepare", "error", err)
	}
}

// awaitBarrier waits until all that was committed before the term is applied here, as long as this node leads in it.
func (n *Cluster) awaitBarrier(ctx context.Context, r *raft.Raft, term uint64) error {
	for {
		err := within(ctx, membershipTimeout, r.Barrier(membershipTimeout))
		if err == nil || ctx.Err() != nil || r.State() != raft.Leader || r.CurrentTerm() != term {
			return err
		}
		n.log.Warn("what was committed before is not applied yet", "term", term, "error", err)
	}
}

// leads reports whether this node is an established leader.
func (n *Cluster) leads() bool { return n.LeaderTerm() != 0 }

// LeaderTerm is the term in which this node leads the region, has committed and has applied all that was committed
// before; 0 if it does not.
func (n *Cluster) LeaderTerm() uint64 {
	term, r := n.established.Load(), n.raft.Load()
	if r == nil || r.State() != raft.Leader || r.CurrentTerm() != term {
		return 0
	}
	return term
}

// IsLeader reports whether this node leads the region and has applied all that was committed before.
func (n *Cluster) IsLeader() bool { return n.leads() }

// leader is the id of the region's leader, empty while none is known.
func (n *Cluster) leader() string {
	r := n.raft.Load()
	if r == nil {
		return ""
	}
	_, id := r.LeaderWithID()
	return string(id)
}

// LastContact is how long ago this node last heard of a leader, 0 while it leads.
func (n *Cluster) LastContact() time.Duration {
	r := n.raft.Load()
	if r == nil || n.leads() {
		return 0
	}
	last := r.LastContact()
	if last.IsZero() {
		last = n.peers.since
	}
	return time.Since(last)
}

// StepDown hands leadership to another node, if this one leads and there is another.
func (n *Cluster) StepDown() {
	r := n.raft.Load()
	if r == nil || r.State() != raft.Leader || n.voters() < 2 {
		return
	}
	if err := within(context.Background(), membershipTimeout, r.LeadershipTransfer()); err != nil {
		n.log.Warn("leadership could not be handed over", "error", err)
	}
}

func (n *Cluster) voters() int {
	voters := 0
	for _, s := range n.servers() {
		if s.Suffrage == raft.Voter {
			voters++
		}
	}
	return voters
}

func (n *Cluster) servers() []raft.Server {
	r := n.raft.Load()
	if r == nil {
		return nil
	}
	f := r.GetConfiguration()
	if f.Error() != nil {
		return nil
	}
	return f.Configuration().Servers
}

// Stop ends this node's part. It returns when everything that Start began has ended.
func (n *Cluster) Stop() {
	n.cancel()
	n.config.Store.StopApplying() // or Raft would wait for an entry that waits for a full disk
	if r := n.raft.Load(); r != nil {
		if err := r.Shutdown().Error(); err != nil {
			n.log.Warn("Raft: shut down", "error", err)
		}
	}
	if n.gossip != nil {
		n.gossip.stop()
	}
	if n.regions != nil {
		n.regions.stop()
	}
	if n.peers != nil {
		n.peers.stop()
	}
	n.done.Wait()
	if n.barrier != nil {
		n.barrier.Close()
	}
	if n.kept != nil {
		if err := n.closeKept(); err != nil {
			n.log.Warn("when this node's state was confirmed can't be kept; after a restart it will seem older", "error", err)
		}
	}
	if n.client != nil {
		n.client.CloseIdleConnections()
	}
	if n.logs != nil {
		if err := n.logs.Close(); err != nil {
			n.log.Warn("Raft log: close", "error", err)
		}
	}
}

// Addresses are where this node listens: its peer port, its gossip port, and its gossip port for all regions, which is
// empty where it has none.
func (n *Cluster) Addresses() (peer, gossip, regions string) {
	if n.regions != nil {
		regions = n.regions.pool.addr
	}
	return n.peers.advertised(), n.gossip.addr, regions
}

// LogPath is the Raft log's file, for its size.
func (n *Cluster) LogPath() string { return filepath.Join(n.config.Dir, raftlog.File) }
