package cluster

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/memberlist"
)

// meta is what a node tells the others of itself by gossip. memberlist allows 512 bytes. It is a hint: whoever has the
// gossip key can say it for another. What counts is asked for over TLS.
type meta struct {
	Peer     string `cbor:"1,keyasint"`           // host:port of its peer port
	Endpoint string `cbor:"2,keyasint"`           // URL of its client port
	Cluster  string `cbor:"3,keyasint,omitempty"` // id of the cluster that it is part of
	Expect   int    `cbor:"4,keyasint,omitempty"` // bootstrap-expect of one that is part of none
}

// gossip is a memberlist pool. Its key is derived from a configured one together with the cluster's authority and the
// pool's name, so that a node of another cluster or region can't take part even where somebody configured the same key.
type gossip struct {
	list *memberlist.Memberlist
	addr string // host:port where it listens
	log  *slog.Logger
	pool pool
	ring *memberlist.Keyring

	validName func(string) bool

	mu    sync.Mutex // guards below
	self  meta
	known map[string]heard // by name; kept when a node leaves, since Raft will want to reach it again
}

// heard is what was last heard of a node.
type heard struct {
	meta
	gossip string // host:port
	alive  bool
}

// pool says which memberlist pool a node takes part in.
type pool struct {
	name            string // of the node in it
	addr, advertise string
	keys            func() [][]byte // the first is the one that this node encrypts with
	label           string          // what keys are bound to, besides the authorities
	authorities     func() [][sha256.Size]byte
	config          *memberlist.Config
	validName       func(string) bool
	log             *slog.Logger
}

func startGossip(p pool, self meta) (*gossip, error) {
	host, port, err := splitAddr(p.addr)
	if err != nil {
		return nil, fmt.Errorf("gossip address %q: %w", p.addr, err)
	}
	keys, err := p.derived()
	if err != nil {
		return nil, err
	}
	g := &gossip{pool: p, log: p.log, validName: p.validName, self: self, known: map[string]heard{}}
	if g.ring, err = memberlist.NewKeyring(keys, keys[0]); err != nil {
		return nil, err
	}
	mc := p.config
	mc.Name = p.name
	mc.BindAddr, mc.BindPort = host, port
	mc.AdvertisePort = port
	if p.advertise != "" {
		if mc.AdvertiseAddr, mc.AdvertisePort, err = splitAddr(p.advertise); err != nil {
			return nil, fmt.Errorf("advertised gossip address %q: %w", p.advertise, err)
		}
	}
	mc.Keyring = g.ring
	mc.TCPTimeout = gossipDialTimeout
	mc.Delegate = (*gossipDelegate)(g)
	mc.Events = (*gossipDelegate)(g)
	mc.DeadNodeReclaimTime = 1 // a node that died may return at another address at once
	mc.LogOutput = logWriter{p.log}
	if g.list, err = memberlist.Create(mc); err != nil {
		return nil, fmt.Errorf("start gossip at %s: %w", p.addr, err)
	}
	local := g.list.LocalNode()
	g.addr = net.JoinHostPort(local.Addr.String(), strconv.Itoa(int(local.Port)))
	return g, nil
}

// derived are the pool's keys: each configured one bound to each authority. Nodes that have a new key, or a new
// authority, and nodes that still use the old one understand each other while both have both.
func (p pool) derived() (keys [][]byte, err error) {
	for _, key := range p.keys() {
		for _, authority := range p.authorities() {
			derived, err := hkdf.Key(sha256.New, key, authority[:], p.label, 32)
			if err != nil {
				return nil, err
			}
			keys = append(keys, derived)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("no gossip key")
	}
	return keys, nil
}

// rekeyInterval is how often a pool looks for other keys.
const rekeyInterval = time.Second

// rekey keeps the ring of keys as the configuration says until ctx ends.
func (g *gossip) rekey(ctx context.Context) {
	every(ctx, rekeyInterval, func() {
		keys, err := g.pool.derived()
		if err != nil {
			g.log.Error("gossip: the keys can't be used", "error", err)
			return
		}
		has := func(keys [][]byte, key []byte) bool {
			return slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
		}
		before := g.ring.GetKeys()
		same := len(before) == len(keys) && !slices.ContainsFunc(keys, func(k []byte) bool { return !has(before, k) })
		if same && bytes.Equal(g.ring.GetPrimaryKey(), keys[0]) {
			return
		}
		for _, key := range keys { // first all that are to be understood, then what to speak, then what to forget
			err = errors.Join(err, g.ring.AddKey(key))
		}
		err = errors.Join(err, g.ring.UseKey(keys[0]))
		for _, key := range before {
			if !has(keys, key) {
				err = errors.Join(err, g.ring.RemoveKey(key))
			}
		}
		if err != nil {
			g.log.Error("gossip: the keys can't be replaced", "error", err)
			return
		}
		g.log.Info("gossip: the keys were replaced", "keys", len(keys))
	})
}

// How often a pool's configured addresses are tried: while nobody else is in it, and while some of them are not. Pools
// that were cut apart for longer than gossip remembers its dead find together again this way.
const (
	aloneInterval     = 200 * time.Millisecond
	rejoinInterval    = 5 * time.Second
	gossipDialTimeout = 3 * time.Second
)

// missing are those of addresses where nobody is held alive.
func (g *gossip) missing(addresses []string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	there := map[string]bool{}
	for _, h := range g.known {
		if h.alive {
			there[h.gossip] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(addresses), func(address string) bool { return there[address] })
}

// join keeps trying addresses of other nodes until ctx ends.
func (g *gossip) join(ctx context.Context, addresses []string) {
	if len(addresses) == 0 {
		return
	}
	var last time.Time
	every(ctx, aloneInterval, func() {
		if g.list.NumMembers() > 1 && time.Since(last) < rejoinInterval {
			return
		}
		for _, address := range g.missing(addresses) {
			if _, err := g.list.Join([]string{address}); err != nil {
				g.log.Debug("gossip: an address does not answer", "address", address, "error", err)
			}
		}
		last = time.Now()
	})
}

func splitAddr(addr string) (string, int, error) {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	port, err := strconv.Atoi(service)
	return host, port, err
}

// set changes what this node tells of itself.
func (g *gossip) set(change func(*meta)) {
	g.mu.Lock()
	change(&g.self)
	g.mu.Unlock()
	if err := g.list.UpdateNode(gossipTimeout); err != nil {
		g.log.Warn("gossip: an update has not reached anyone yet", "error", err)
	}
}

// members are the nodes that gossip holds alive, this one included.
func (g *gossip) members() map[string]meta {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := map[string]meta{}
	for id, h := range g.known {
		if h.alive {
			m[id] = h.meta
		}
	}
	return m
}

// find is the last thing known of a node.
func (g *gossip) find(id string) (meta, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if h, ok := g.known[id]; ok {
		return h.meta, nil
	}
	return meta{}, fmt.Errorf("node %s has not been heard of by gossip", id)
}

func decodeMeta(b []byte) (m meta, err error) {
	if err := cbor.Unmarshal(b, &m); err != nil {
		return m, err
	}
	if m.Peer == "" {
		return m, errors.New("no peer address")
	}
	return m, nil
}

func (g *gossip) stop() {
	if err := g.list.Leave(gossipTimeout); err != nil {
		g.log.Warn("gossip: leave", "error", err)
	}
	if err := g.list.Shutdown(); err != nil {
		g.log.Warn("gossip: shut down", "error", err)
	}
}

// gossipDelegate is gossip as memberlist sees it.
type gossipDelegate gossip

func (d *gossipDelegate) NodeMeta(int) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	b, err := cbor.Marshal(d.self)
	if err != nil {
		panic(err) // only for types that cannot be encoded
	}
	return b
}

func (d *gossipDelegate) NotifyMsg([]byte)                {}
func (d *gossipDelegate) GetBroadcasts(int, int) [][]byte { return nil }
func (d *gossipDelegate) LocalState(bool) []byte          { return nil }
func (d *gossipDelegate) MergeRemoteState([]byte, bool)   {}

func (d *gossipDelegate) NotifyLeave(n *memberlist.Node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if h, ok := d.known[n.Name]; ok {
		h.alive = false
		d.known[n.Name] = h
	}
}

func (d *gossipDelegate) NotifyJoin(n *memberlist.Node)   { d.learn(n) }
func (d *gossipDelegate) NotifyUpdate(n *memberlist.Node) { d.learn(n) }

func (d *gossipDelegate) learn(n *memberlist.Node) {
	m, err := decodeMeta(n.Meta)
	if err != nil || !d.validName(n.Name) {
		d.log.Warn("gossip: a node that says nothing usable of itself", "node", n.Name)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known[n.Name] = heard{m, n.Address(), true}
}

// logWriter turns memberlist's log lines into structured ones.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(b []byte) (int, error) {
	line := strings.TrimSpace(string(b))
	level := slog.LevelDebug
	if i := strings.Index(line, "["); i >= 0 {
		if name, rest, ok := strings.Cut(line[i+1:], "] "); ok {
			line = rest
			switch name {
			case "WARN":
				level = slog.LevelWarn
			case "ERR", "ERROR":
				level = slog.LevelError
			}
		}
	}
	w.log.Log(context.Background(), level, line)
	return len(b), nil
}
