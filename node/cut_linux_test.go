package node_test

import (
	"net"
	"testing"
	"time"

	"coffer/node"
)

// TestCutOffEndsEveryConnection shows that others need not wait for a process that can't be ended.
func TestCutOffEndsEveryConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	node.CutOff()
	deadline := time.Now().Add(10 * time.Second)
	for _, conn := range []net.Conn{client, server} {
		_ = conn.SetDeadline(deadline)
		if _, err := conn.Read(make([]byte, 1)); err == nil || time.Now().After(deadline) {
			t.Errorf("a connection is open: %v", err)
		}
	}
	if conn, err := net.DialTimeout("tcp", l.Addr().String(), time.Second); err == nil {
		_ = conn.Close()
		t.Error("a new connection was let in")
	}
}
