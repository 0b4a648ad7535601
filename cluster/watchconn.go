package cluster

import (
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"coffer/cluster/pki"
)

// stallTimeout is how long a peer may leave a call's body or its answer where it is.
const stallTimeout = 20 * time.Second

// watchConn is an accepted connection below TLS. It tells its table when it is closed.
type watchConn struct {
	net.Conn
	number uint64 // in the order in which connections were accepted
	key    string // guarded by the table's mutex

	mu    sync.Mutex // guards below
	table *openConns
	who   *x509.Certificate // nil before the handshake
	raft  bool              // it carries Raft's messages, or questions for the read index
	stall time.Duration     // that a write may take; 0 for what its user sets
	ended bool
}

// moveTo counts the connection in a table, and no more in the one where it was.
func (c *watchConn) moveTo(table *openConns, key string) {
	c.mu.Lock()
	before := c.table
	c.table = table
	c.mu.Unlock()
	if before != nil {
		before.remove(c)
	}
	table.add(key, c)
	c.mu.Lock()
	ended := c.ended
	c.mu.Unlock()
	if ended { // meanwhile, when it was in neither
		table.remove(c)
	}
}

// proven notes whose the connection is, and whether it is one of members only.
func (c *watchConn) proven(who *x509.Certificate, raft bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.who, c.raft = who, raft
}

func (c *watchConn) state() (who *x509.Certificate, raft bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.who, c.raft
}

// boundWrites lets no write take longer than limit.
func (c *watchConn) boundWrites(limit time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stall = limit
}

// Write is part of net.Conn.
func (c *watchConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	stall := c.stall
	c.mu.Unlock()
	if stall > 0 {
		_ = c.Conn.SetWriteDeadline(time.Now().Add(stall))
	}
	return c.Conn.Write(b)
}

// Close is part of net.Conn.
func (c *watchConn) Close() error {
	c.mu.Lock()
	table := c.table
	c.ended = true
	c.mu.Unlock()
	if table != nil {
		table.remove(c)
	}
	return c.Conn.Close()
}

// maxBodies bounds the bodies that one node can have in this node's memory at a time, in bytes: the largest call, and
// many of the usual size beside it.
const maxBodies = 2 * maxCall

// bodies counts the bodies of calls under way by their callers.
type bodies struct {
	mu   sync.Mutex // guards below
	held map[pki.Identity]int
}

func (b *bodies) take(who pki.Identity, size int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held[who]+size > maxBodies {
		return false
	}
	b.held[who] += size
	return true
}

func (b *bodies) release(who pki.Identity, size int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held[who] -= size; b.held[who] == 0 {
		delete(b.held, who)
	}
}

// bounded lets a body neither stall nor, if it comes from a node, take more memory than one node may have.
func (b *bodies) bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := &boundedBody{ReadCloser: r.Body, control: http.NewResponseController(w), bodies: b, who: callerOf(r)}
		r.Body = body
		defer func() { b.release(body.who, body.held) }()
		next.ServeHTTP(w, r)
	})
}

type boundedBody struct {
	io.ReadCloser
	control *http.ResponseController
	bodies  *bodies
	who     pki.Identity
	held    int
}

var errBodies = &http.MaxBytesError{Limit: maxBodies}

// Read is part of io.Reader.
func (b *boundedBody) Read(p []byte) (int, error) {
	_ = b.control.SetReadDeadline(time.Now().Add(stallTimeout))
	n, err := b.ReadCloser.Read(p)
	if err != nil { // the server listens for the next request, or for the caller's going, without a deadline
		_ = b.control.SetReadDeadline(time.Time{})
	}
	if b.who.Role == pki.Node { // an operator's archives go to the disk
		if !b.bodies.take(b.who, n) {
			return 0, errBodies
		}
		b.held += n
	}
	return n, err
}
