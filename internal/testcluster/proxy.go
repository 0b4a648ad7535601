package testcluster

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Proxy passes TCP connections on to a node, with faults. What is sent again after a reset arrives twice, and what was
// delayed arrives after what was sent later on another connection.
type Proxy struct {
	target   string
	listener net.Listener
	open     sync.WaitGroup

	mu     sync.Mutex // guards below
	faults Faults
	conns  map[net.Conn]bool
	closed bool
}

// Faults are what a proxy does to connections.
type Faults struct {
	Delay    time.Duration // of each piece of data, each way
	Jitter   time.Duration // up to so much more
	Reset    float64       // chance that a connection ends at a piece of data
	Mute     float64       // chance that a connection passes on what is asked, and ends at the answer
	Hold     float64       // chance that a piece of data to the node is held back for HoldFor
	HoldFor  time.Duration
	BlockIn  bool // nothing gets to the node
	BlockOut bool // nothing comes back
	// Record keeps what passes towards the node.
	Record func([]byte)
}

// NewProxy listens on loopback for connections to target.
func NewProxy(target string) (*Proxy, error) {
	addr, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	p := &Proxy{target: target, conns: map[net.Conn]bool{}}
	if p.listener, err = net.Listen("tcp", addr); err != nil {
		return nil, err
	}
	p.open.Go(p.accept)
	return p, nil
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Set replaces the faults. Connections that are open have them from their next piece of data on.
func (p *Proxy) Set(f Faults) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = f
}

// Close ends the proxy and its connections.
func (p *Proxy) Close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.open.Wait()
}

func (p *Proxy) now() Faults {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.open.Go(func() { p.pass(client) })
	}
}

func (p *Proxy) keep(c net.Conn, open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if open && !p.closed {
		p.conns[c] = true
		return
	}
	delete(p.conns, c)
	_ = c.Close()
}

func (p *Proxy) pass(client net.Conn) {
	p.keep(client, true)
	defer p.keep(client, false)
	node, err := net.DialTimeout("tcp", p.target, time.Second)
	if err != nil {
		return
	}
	p.keep(node, true)
	defer p.keep(node, false)
	mute := rand.Float64() < p.now().Mute
	end := func() { _ = client.Close(); _ = node.Close() }
	var ways sync.WaitGroup
	ways.Go(func() { defer end(); p.copy(node, client, true, false) })
	ways.Go(func() { defer end(); p.copy(client, node, false, mute) })
	ways.Wait()
}

// muteAfter is what a muted connection lets come back: its handshake.
const muteAfter = 3 << 10

func (p *Proxy) copy(to io.Writer, from io.Reader, in, mute bool) {
	buf := make([]byte, 32<<10)
	passed := 0
	for {
		n, err := from.Read(buf)
		if n > 0 {
			f := p.now()
			passed += n
			if f.Record != nil && in {
				f.Record(buf[:n])
			}
			for f.BlockIn && in || f.BlockOut && !in {
				time.Sleep(20 * time.Millisecond) // until it is unblocked, or the connection is given up
				if f = p.now(); p.isClosed() {
					return
				}
			}
			if rand.Float64() < f.Reset || mute && passed > muteAfter {
				return
			}
			if in && rand.Float64() < f.Hold {
				time.Sleep(f.HoldFor)
			}
			if d := f.Delay + time.Duration(rand.Float64()*float64(f.Jitter)); d > 0 {
				time.Sleep(d)
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *Proxy) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}
