package httpapi

import (
	"net"
	"net/netip"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// limitedListener closes connections that are above a quota as they come. Waiting for others to end instead
// (netutil.LimitListener) would leave their clients without any answer, and whoever holds connections open would keep
// everybody out.
type limitedListener struct {
	net.Listener
	connections *quota
	refused     prometheus.Counter
}

func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		of := addressOf(conn.RemoteAddr().String())
		if l.connections.take(of, 1) {
			return &limitedConn{Conn: conn, listener: l, of: of}, nil
		}
		l.refused.Inc()
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset, which nothing is kept for afterwards
		}
		_ = conn.Close()
	}
}

type limitedConn struct {
	net.Conn
	listener *limitedListener
	of       netip.Prefix
	once     sync.Once
}

func (c *limitedConn) Close() error {
	c.once.Do(func() { c.listener.connections.give(c.of, 1) })
	return c.Conn.Close()
}

// CloseWrite lets a client that still sends read the answer before it finds the connection closed (net/http asks for
// it).
func (c *limitedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
