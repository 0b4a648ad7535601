package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"sync"
	"time"

	"coffer/cluster/pki"
	"coffer/cluster/readindex"
	"coffer/mistake"
)

// The protocols of a peer port (ALPN).
const (
	raftProtocol = "coffer-raft"
	callProtocol = "http/1.1" // node-to-node calls and operators
	// regionProtocol is for calls of nodes of other regions.
	regionProtocol = "coffer-regions"
)

// peerPort listens for the other nodes and hands connections to Raft, to the read index or to the calls' server.
type peerPort struct {
	n        *Cluster
	listener net.Listener
	since    time.Time
	raft     *connQueue
	index    *connQueue
	calls    *connQueue
	regions  *connQueue
	unproven *openConns // before the end of their handshake
	proven   *openConns
	dialed   *openConns   // that this node made
	server   *http.Server // of calls
	foreign  *http.Server // of regions

	transportOnce sync.Once
	transport     *provenTransport // nil before Raft starts
	closeOnce     sync.Once
}

func listenPeers(n *Cluster) (*peerPort, error) {
	listener, err := net.Listen("tcp", n.config.PeerAddr)
	if err != nil {
		return nil, fmt.Errorf("listen for other nodes: %w", err)
	}
	addr := listener.Addr()
	p := &peerPort{
		n: n, listener: listener, since: time.Now(), raft: newConnQueue(raftAddr(n.id)),
		index: newConnQueue(addr), calls: newConnQueue(addr), regions: newConnQueue(addr),
		unproven: newOpenConns(handshakesPerAddress, handshakes), proven: newOpenConns(connsPerIdentity, conns),
		dialed: newOpenConns(math.MaxInt, math.MaxInt), // they are this node's own
	}
	p.server, p.foreign = p.newServer(), p.newServer()
	p.foreign.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, regionKey{}, conn.(*regionConn).node)
	}
	return p, nil
}

func (p *peerPort) newServer() *http.Server {
	return &http.Server{
		ReadHeaderTimeout: peerTimeout,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          newStdLog(p.n.log.With("part", "peers")),
	}
}

func (p *peerPort) advertised() string {
	if p.n.config.PeerAdvertise != "" {
		return p.n.config.PeerAdvertise
	}
	return p.listener.Addr().String()
}

func (p *peerPort) serve(done *sync.WaitGroup) {
	p.server.Handler = (&bodies{held: map[pki.Identity]int{}}).bounded(p.n.calls())
	p.foreign.Handler = (&bodies{held: map[pki.Identity]int{}}).bounded(p.n.regionCalls())
	done.Add(3)
	go func() {
		defer done.Done()
		p.accept()
	}()
	go func() {
		defer done.Done()
		_ = p.foreign.Serve(p.regions) // ends with the port
	}()
	go func() {
		defer done.Done()
		_ = p.server.Serve(p.calls) // ends with the port
	}()
}

// How many connections may be open: before their handshake ends, from one address and in all; and after it, of one
// certificate's holder and in all. A node needs about a dozen.
const (
	handshakesPerAddress = 32
	handshakes           = 256
	connsPerIdentity     = 128
	conns                = 4096
)

func (p *peerPort) accept() {
	config := p.n.config.Credentials.Server(regionProtocol, raftProtocol, readindex.Protocol, callProtocol)
	var open sync.WaitGroup
	defer open.Wait()
	for number := uint64(1); ; number++ {
		conn, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		} else if err != nil {
			p.n.log.Warn("accept a peer connection", "error", err)
			time.Sleep(10 * time.Millisecond) // out of file descriptors: let some close
			continue
		}
		watched := &watchConn{Conn: conn, number: number}
		watched.moveTo(p.unproven, addressKey(conn.RemoteAddr()))
		open.Go(func() {
			err := mistake.Catch(p.n.log, "a peer connection failed by a mistake in the code", func() error {
				p.admit(watched, tls.Server(watched, config))
				return nil
			})
			if err != nil {
				_ = watched.Close()
			}
		})
	}
}

func (p *peerPort) admit(watched *watchConn, conn *tls.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), peerTimeout)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		p.n.log.Warn("a peer connection was refused", "from", conn.RemoteAddr().String(), "error", err)
		_ = conn.Close()
		return
	}
	state := conn.ConnectionState()
	id, err := pki.IdentityOf(state.PeerCertificates[0])
	if err != nil {
		_ = conn.Close() // the handshake has seen to it that it names somebody
		return
	}
	protocol := state.NegotiatedProtocol
	watched.proven(state.PeerCertificates[0], protocol == raftProtocol || protocol == readindex.Protocol)
	watched.moveTo(p.proven, id.Name())
	switch protocol {
	case raftProtocol, readindex.Protocol:
		if err := p.greet(ctx, conn, id); err != nil {
			p.n.log.Warn("a node was refused", "from", id.ID, "protocol", protocol, "error", err)
			_ = conn.Close()
			return
		}
		map[string]*connQueue{raftProtocol: p.raft, readindex.Protocol: p.index}[protocol].put(conn)
	case regionProtocol:
		watched.boundWrites(stallTimeout)
		p.regions.put(&regionConn{conn, id})
	default:
		watched.boundWrites(stallTimeout)
		p.calls.put(conn)
	}
}

// regionConn is a connection of a node of another region. It is no *tls.Conn, which net/http closes when it does not
// know the protocol.
type regionConn struct {
	net.Conn
	node pki.Identity
}

type regionKey struct{}

// closePeer closes the connections by which a node takes part in Raft.
func (p *peerPort) closePeer(id string) {
	for _, table := range []*openConns{p.proven, p.dialed} {
		table.closeWhere(func(c *watchConn) bool {
			who, raft := c.state()
			if who == nil || !raft {
				return false
			}
			of, err := pki.IdentityOf(who)
			return err == nil && of.ID == id
		})
	}
}

// client makes calls to "https://<node id>/…".
func (p *peerPort) client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialTLSContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			id, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return p.dial(ctx, id, callProtocol)
		},
		MaxIdleConnsPerHost: 8,
		IdleConnTimeout:     time.Minute,
	}}
}

func (p *peerPort) stop() {
	p.closeOnce.Do(func() {
		_ = p.listener.Close()
		p.transportOnce.Do(func() {}) // none is made any more
		if p.transport != nil {
			_ = p.transport.Close()
		}
		_ = p.raft.Close()
		_ = p.index.Close()
		_ = p.calls.Close()
		_ = p.regions.Close()
		_ = p.server.Close()
		_ = p.foreign.Close()
		for _, table := range []*openConns{p.unproven, p.proven, p.dialed} {
			table.closeWhere(func(*watchConn) bool { return true })
		}
	})
}
