package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/memberlist"

	"coffer/cluster/pki"
)

// RegionsConfig is how a region finds the others: by a second gossip pool, which nodes of all regions share.
type RegionsConfig struct {
	GossipAddr      string          // host:port to listen on; empty for a region alone
	GossipAdvertise string          // host:port that other regions reach it by
	GossipKeys      func() [][]byte // common to all regions, as [Config.GossipKeys]
	Join            []string        // gossip addresses of nodes of other regions
	PeerAdvertise   string          // host:port that other regions reach the peer port by; PeerAdvertise's if empty
}

// regions is the other regions as this node knows them, and its calls to them.
type regions struct {
	pool        *gossip
	credentials *pki.Credentials
	client      *http.Client
	dialed      *openConns

	mu        sync.Mutex        // guards below
	preferred map[string]string // region -> id of the node that is asked first
	reached   map[string]string // node -> where it was last found; gossip is only a hint
}

func regionPool(c Config) pool {
	id := c.Credentials.Identity
	return pool{
		name: id.ID, addr: c.GossipAddr, advertise: c.GossipAdvertise, keys: c.GossipKeys,
		authorities: c.Credentials.Authorities,
		label:       "coffer gossip v1 " + id.Region, config: memberlist.DefaultLANConfig(),
		validName: func(name string) bool { return pki.Identity{Region: "x", ID: name}.Check() == nil },
		log:       c.Log.With("part", "gossip"),
	}
}

func startRegions(c Config, self meta, dialed *openConns) (*regions, error) {
	id := c.Credentials.Identity
	if c.Regions.PeerAdvertise != "" {
		self.Peer = c.Regions.PeerAdvertise
	}
	r := &regions{credentials: c.Credentials, preferred: map[string]string{}, reached: map[string]string{}, dialed: dialed}
	var err error
	r.pool, err = startGossip(pool{
		name: nodeName(id.Region, id.ID), addr: c.Regions.GossipAddr, advertise: c.Regions.GossipAdvertise,
		keys:        c.Regions.GossipKeys,
		authorities: c.Credentials.Authorities,
		label:       "coffer regions gossip v1", config: memberlist.DefaultWANConfig(),
		validName: func(name string) bool {
			node, region, _ := strings.Cut(name, ".")
			return pki.Identity{Region: region, ID: node}.Check() == nil
		},
		log: c.Log.With("part", "regions-gossip"),
	}, self)
	if err != nil {
		return nil, err
	}
	r.client = &http.Client{
		Transport: &http.Transport{DialTLSContext: r.dial, MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute},
	}
	return r, nil
}

// nodeName names a node among those of all regions.
func nodeName(region, id string) string { return id + "." + region }

func (r *regions) stop() {
	r.pool.stop()
	r.client.CloseIdleConnections()
}

// dial connects to a node of another region, whose name stands in the address, and verifies that it is that node.
func (r *regions) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	name, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	m, err := r.pool.find(name)
	if err != nil {
		return nil, err
	}
	addresses := []string{m.Peer}
	r.mu.Lock()
	if last := r.reached[name]; last != "" && last != m.Peer {
		addresses = append(addresses, last)
	}
	r.mu.Unlock()
	id, region, _ := strings.Cut(name, ".")
	conn, found, err := dialAny(ctx, r.dialed, addresses, r.credentials.Client(region, id, regionProtocol))
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.reached[name] = found
	r.mu.Unlock()
	return conn, nil
}

// RegionNode is a node of some region.
type RegionNode struct {
	ID       string `json:"id"`
	Peer     string `json:"peer"`
	Endpoint string `json:"endpoint"`
	Alive    bool   `json:"alive"`
}

// KnowsRegion reports whether nodes of a region have been heard of.
func (n *Cluster) KnowsRegion(region string) bool { return len(n.Regions()[region]) > 0 }

// Regions are the nodes of all regions that this node has heard of, its own included, by region.
func (n *Cluster) Regions() map[string][]RegionNode {
	found := map[string][]RegionNode{}
	if n.regions == nil {
		return found
	}
	g := n.regions.pool
	g.mu.Lock()
	defer g.mu.Unlock()
	for name, h := range g.known {
		id, region, _ := strings.Cut(name, ".")
		found[region] = append(found[region], RegionNode{id, h.Peer, h.Endpoint, h.alive})
	}
	for _, nodes := range found {
		slices.SortFunc(nodes, func(a, b RegionNode) int { return strings.Compare(a.ID, b.ID) })
	}
	return found
}

// ErrNoRegion says that no node of a region has been heard of.
var ErrNoRegion = errors.New("no node of the region has been heard of")

// leaderHeader tells callers of other regions which node to ask first.
const leaderHeader = "X-Coffer-Leader-Node"

// CallRegion posts a CBOR body to nodes of another region until one answers, for at most wait each, and decodes the
// answer. An error of kind CallError is that node's refusal.
func (n *Cluster) CallRegion(ctx context.Context, region, path string, wait time.Duration, in, into any) error {
	if n.regions == nil {
		return ErrNoRegion
	}
	body, err := cbor.Marshal(in)
	if err != nil {
		return err
	}
	nodes := n.regions.inOrder(region, n.Regions()[region])
	if len(nodes) == 0 {
		return ErrNoRegion
	}
	var failed error
	for _, id := range nodes {
		err := n.regions.call(ctx, region, id, path, wait, body, into)
		var refused *CallError
		if err == nil || errors.As(err, &refused) {
			return err
		}
		failed = err
		n.regions.prefer(region, "")
		if ctx.Err() != nil {
			break
		}
	}
	return failed
}

// ReachRegion asks all nodes of another region at once, and fails if none answers in time.
func (n *Cluster) ReachRegion(ctx context.Context, region, path string, wait time.Duration, in any) error {
	if n.regions == nil {
		return ErrNoRegion
	}
	body, err := cbor.Marshal(in)
	if err != nil {
		return err
	}
	nodes := n.Regions()[region]
	answers := make(chan error, len(nodes))
	for _, node := range nodes {
		go func() {
			var answer cbor.RawMessage
			answers <- n.regions.call(ctx, region, node.ID, path, wait, body, &answer) // ends with wait
		}()
	}
	failed := ErrNoRegion
	for range nodes {
		var refused *CallError
		if failed = <-answers; failed == nil || errors.As(failed, &refused) {
			return nil
		}
	}
	return failed
}

// inOrder is whom to ask: the preferred node, those that gossip holds alive, and the others.
func (r *regions) inOrder(region string, nodes []RegionNode) []string {
	r.mu.Lock()
	preferred := r.preferred[region]
	r.mu.Unlock()
	rank := func(n RegionNode) int {
		switch {
		case n.ID == preferred:
			return 0
		case n.Alive:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(nodes, func(a, b RegionNode) int { return rank(a) - rank(b) })
	ids := make([]string, len(nodes))
	for i, n := range nodes {
		ids[i] = n.ID
	}
	return ids
}

func (r *regions) prefer(region, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.preferred[region] = id
}

func (r *regions) call(ctx context.Context, region, id, path string, wait time.Duration, body []byte, into any) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	name := nodeName(region, id)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+name+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return fmt.Errorf("call node %s of region %s: %w", id, region, err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(io.LimitReader(resp.Body, maxCall))
	if err != nil {
		return err
	}
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusServiceUnavailable:
		return fmt.Errorf("node %s of region %s: %s", id, region, bytes.TrimSpace(got)) // another one may be able to
	default:
		return &CallError{Node: name, Status: resp.StatusCode, Message: string(bytes.TrimSpace(got))}
	}
	if leader := resp.Header.Get(leaderHeader); leader != "" {
		r.prefer(region, leader)
	} else {
		r.prefer(region, id)
	}
	return cbor.Unmarshal(got, into)
}

// regionCalls is what the peer port answers to nodes of other regions.
func (n *Cluster) regionCalls() http.Handler {
	mux := http.NewServeMux()
	for _, c := range n.above.RegionCalls {
		mux.Handle(c.Pattern, n.caught(c.Pattern, func(w http.ResponseWriter, r *http.Request) {
			if leader := n.leader(); leader != "" {
				w.Header().Set(leaderHeader, leader)
			}
			c.Do(n, w, r)
		}))
	}
	return mux
}

// AnsweredRegion makes a RegionCall's handler of a function from the calling region and its question to the answer.
// An error of the function is answered with 503: another node may be able to.
func AnsweredRegion[In, Out any](
	do func(ctx context.Context, region string, in *In) (*Out, error),
) func(*Cluster, http.ResponseWriter, *http.Request) {
	return func(_ *Cluster, w http.ResponseWriter, r *http.Request) {
		in := new(In)
		if err := readCBOR(r, in); err != nil {
			http.Error(w, "the question can't be read", http.StatusBadRequest)
			return
		}
		out, err := do(r.Context(), callerOf(r).Region, in)
		var refused *CallError
		switch {
		case errors.As(err, &refused):
			http.Error(w, refused.Message, refused.Status)
		case err != nil:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		default:
			writeCBOR(w, out)
		}
	}
}
