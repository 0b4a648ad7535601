package cluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"time"

	"coffer/cluster/pki"
	"coffer/cluster/readindex"
)

// addresses are where a node may be: where gossip says, and where it was last found.
func (p *peerPort) addresses(id string) (found []string) {
	if m, err := p.n.gossip.find(id); err == nil {
		found = append(found, m.Peer)
	}
	if e, ok := p.n.book.of(id); ok && e.Peer != "" && (len(found) == 0 || e.Peer != found[0]) {
		found = append(found, e.Peer)
	}
	return found
}

// dial connects to a node by its id, at the first of its addresses that proves to be that node.
func (p *peerPort) dial(ctx context.Context, id, protocol string) (net.Conn, error) {
	addresses := p.addresses(id)
	if len(addresses) == 0 {
		return nil, fmt.Errorf("node %s has not been heard of", id)
	}
	credentials := p.n.config.Credentials
	conn, addr, err := dialAny(ctx, p.dialed, addresses, credentials.Client(credentials.Identity.Region, id, protocol))
	if err != nil {
		return nil, fmt.Errorf("connect to node %s: %w", id, err)
	}
	p.n.book.note(id, func(e *entry) { e.Peer = addr })
	if protocol == raftProtocol || protocol == readindex.Protocol {
		if err := hello(ctx, conn, p.n.logs.ClusterID()); err != nil {
			_ = conn.Close()
			return nil, fmt.Errorf("node %s: %w", id, err)
		}
	}
	return conn, nil
}

// dialAny connects to all addresses at once and keeps the first connection whose certificate fits: who can name a wrong
// address must not be able to delay the right one.
func dialAny(
	ctx context.Context, table *openConns, addresses []string, config *tls.Config,
) (net.Conn, string, error) {
	if len(addresses) == 1 {
		conn, err := dialTLS(ctx, table, addresses[0], config)
		return conn, addresses[0], err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type dialed struct {
		conn net.Conn
		addr string
		err  error
	}
	results := make(chan dialed, len(addresses))
	for _, addr := range addresses {
		go func() {
			conn, err := dialTLS(ctx, table, addr, config.Clone())
			results <- dialed{conn, addr, err}
		}()
	}
	var failed error
	for i := range addresses {
		r := <-results
		if r.err != nil {
			failed = r.err
			continue
		}
		go func() { // the others, which may have come through as well
			for range len(addresses) - 1 - i {
				if late := <-results; late.conn != nil {
					_ = late.conn.Close()
				}
			}
		}()
		return r.conn, r.addr, nil
	}
	return nil, "", failed
}

// dialTLS connects to an address and verifies who is there. The connection stands in table until it is closed.
func dialTLS(ctx context.Context, table *openConns, addr string, config *tls.Config) (net.Conn, error) {
	raw, err := (&net.Dialer{Timeout: peerTimeout}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	watched := &watchConn{Conn: raw}
	conn := tls.Client(watched, config)
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	protocol := config.NextProtos[0]
	watched.proven(conn.ConnectionState().PeerCertificates[0], protocol == raftProtocol || protocol == readindex.Protocol)
	watched.moveTo(table, config.ServerName)
	return conn, nil
}

// closeRefused closes the connections to whom the authorities or the revocations, where these change, allow none any
// more.
func (n *Cluster) closeRefused(ctx context.Context) {
	seen := n.config.Credentials.Changes()
	every(ctx, watchInterval, func() {
		now := n.config.Credentials.Changes()
		if now == seen {
			return
		}
		seen = now
		closed := 0
		for _, table := range []*openConns{n.peers.proven, n.peers.dialed} {
			closed += table.closeWhere(func(c *watchConn) bool {
				who, _ := c.state()
				return who != nil && n.config.Credentials.Refuses(who) != nil
			})
		}
		n.log.Info("the authorities or the revocations changed", "connections closed", closed)
	})
}

// A connection for Raft or the read index begins with the id of the caller's cluster, and an answer: why it is refused,
// empty if it is not. Each is a byte of length and so many bytes.
const maxHello = 255

func hello(ctx context.Context, conn net.Conn, cluster string) error {
	deadline := time.Now().Add(peerTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	_ = conn.SetDeadline(deadline)
	defer conn.SetDeadline(time.Time{})
	if err := writeHello(conn, cluster); err != nil {
		return err
	}
	refused, err := readHello(conn)
	if err == nil && refused != "" {
		err = fmt.Errorf("refused: %s", refused)
	}
	return err
}

// greet is the other side of hello.
func (p *peerPort) greet(ctx context.Context, conn net.Conn, who pki.Identity) error {
	_ = conn.SetDeadline(time.Now().Add(peerTimeout))
	defer conn.SetDeadline(time.Time{})
	cluster, err := readHello(conn)
	if err != nil {
		return err
	}
	switch {
	case who.Role != pki.Node:
		err = fmt.Errorf("%s %s is no node", who.Role, who.ID)
	default:
		err = p.n.sameCluster(cluster)
	}
	if err == nil {
		err = p.n.circle.trusts(ctx, who.ID)
	}
	if err != nil {
		_ = writeHello(conn, err.Error()) // the caller may have gone
		return err
	}
	return writeHello(conn, "")
}

func writeHello(w io.Writer, text string) error {
	text = text[:min(len(text), maxHello)]
	_, err := w.Write(append([]byte{byte(len(text))}, text...))
	return err
}

func readHello(r io.Reader) (string, error) {
	var size [1]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return "", err
	}
	b := make([]byte, size[0])
	_, err := io.ReadFull(r, b)
	return string(b), err
}
