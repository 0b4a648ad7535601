package cluster_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"coffer/cluster/pki"
)

// TestIdleConnectionsKeepNobodyOut opens many connections to a peer port that never begin their handshake, from the
// address that operators come from and from others, and an operator and a node call meanwhile.
func TestIdleConnectionsKeepNobodyOut(t *testing.T) {
	g := newGroup(t)
	n := g.add("n1", 1)
	n.awaitReady()
	operator := g.credentials(pki.Operator, "op")
	for _, from := range []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"} {
		for range 300 {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
			conn, err := d.DialContext(t.Context(), "tcp", n.peer())
			noError(t, err)
			defer conn.Close()
		}
		start := time.Now()
		status, body, err := n.call(operator, http.MethodGet, "/status", nil)
		if err != nil || status != http.StatusOK {
			t.Fatalf("with idle connections from %s: %d %s %v, after %v", from, status, body, err, time.Since(start))
		}
	}
}

// TestOneHolderIsBounded opens many connections with one certificate: its oldest are closed, others' stay.
func TestOneHolderIsBounded(t *testing.T) {
	g := newGroup(t)
	n := g.add("n1", 1)
	n.awaitReady()
	open := func(as *pki.Credentials) *tls.Conn {
		conn, err := tls.Dial("tcp", n.peer(), as.Client(region, "n1", "http/1.1"))
		noError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		_, err = conn.Write([]byte("GET /status HTTP/1.1\r\nHost: n1\r\n\r\n"))
		noError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		noError(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		noError(t, err)
		return conn // idle, and may be so for minutes
	}
	quiet := open(g.credentials(pki.Operator, "quiet"))
	greedy := g.credentials(pki.Operator, "greedy")
	first := open(greedy)
	for range 128 {
		open(greedy)
	}
	closed := func(c *tls.Conn, wait time.Duration) bool {
		noError(t, c.SetReadDeadline(time.Now().Add(wait)))
		_, err := c.Read(make([]byte, 1))
		var timeout net.Error
		return err != nil && (!errors.As(err, &timeout) || !timeout.Timeout())
	}
	if !closed(first, 10*time.Second) {
		t.Error("the oldest of too many connections of one holder is still open")
	}
	if closed(quiet, 10*time.Millisecond) {
		t.Error("another holder's connection was closed")
	}
}
