package cluster

import (
	"net"
	"sync"
	"time"
)

// connQueue is a net.Listener fed with connections.
type connQueue struct {
	addr  net.Addr
	conns chan net.Conn
	ended chan struct{}
	once  sync.Once
}

func newConnQueue(addr net.Addr) *connQueue {
	return &connQueue{addr: addr, conns: make(chan net.Conn), ended: make(chan struct{})}
}

func (q *connQueue) put(conn net.Conn) {
	select {
	case q.conns <- conn:
	case <-time.After(peerTimeout): // nobody takes such connections yet
		_ = conn.Close()
	case <-q.ended:
		_ = conn.Close()
	}
}

func (q *connQueue) Accept() (net.Conn, error) {
	select {
	case conn := <-q.conns:
		return conn, nil
	case <-q.ended:
		return nil, net.ErrClosed
	}
}

func (q *connQueue) Close() error {
	q.once.Do(func() { close(q.ended) })
	return nil
}

func (q *connQueue) Addr() net.Addr { return q.addr }
