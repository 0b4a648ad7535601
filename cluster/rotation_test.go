package cluster_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"coffer/cluster"
	"coffer/cluster/pki"
)

// TestRevokedCertificateEndsAtOnce revokes the certificates of a node and an operator that are connected: their
// connections end and no new ones are taken, without a restart. A certificate that the node gets afterwards counts.
func TestRevokedCertificateEndsAtOnce(t *testing.T) {
	g := newGroup(t)
	list := filepath.Join(g.dir, "revoked")
	noError(t, os.WriteFile(list, []byte("# none yet\n"), 0o600))
	g.with = func(c *cluster.Config) { noError(t, c.Credentials.UseRevoked(list)) }
	nodes := g.three()
	stolen, operator := g.credentials(pki.Node, "n3"), g.credentials(pki.Operator, "op")
	var open []*tls.Conn
	for _, as := range []*pki.Credentials{stolen, operator} {
		conn, err := tls.Dial("tcp", nodes[0].peer(), as.Client(region, "n1", "http/1.1"))
		noError(t, err)
		defer conn.Close()
		open = append(open, conn)
	}
	for _, id := range []pki.Identity{stolen.Identity, operator.Identity} {
		noError(t, pki.Revoke(list, id, time.Now()))
	}
	for _, conn := range open {
		noError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
		_, err := conn.Read(make([]byte, 1))
		if err == nil || os.IsTimeout(err) {
			t.Errorf("the connection of a revoked certificate is still open: %v", err)
		}
	}
	for name, as := range map[string]*pki.Credentials{"node": stolen, "operator": operator} {
		nodes[0].await("the refusal of the "+name, func() error {
			if status, _, err := nodes[0].call(as, http.MethodGet, "/status", nil); err == nil {
				return fmt.Errorf("answered %d", status)
			}
			return nil
		})
	}
	other := g.credentials(pki.Operator, "op2")
	if status, _, err := nodes[0].call(other, http.MethodGet, "/status", nil); err != nil || status != http.StatusOK {
		t.Errorf("another operator: %d %v", status, err)
	}
	noError(t, leaderOf(nodes[:2]...).write("goes on"))
}

// TestAuthorityRotates changes the authority of running nodes: first they trust both, then each gets a certificate of
// the new one, then they trust the new one only. Writes go on, gossip stays whole, and in the end the old authority's
// certificates count for nothing.
func TestAuthorityRotates(t *testing.T) {
	g := newGroup(t)
	nodes := g.three()
	old := g.credentials(pki.Operator, "op")
	fresh := filepath.Join(g.dir, "ca-new")
	noError(t, pki.CreateAuthority(fresh, time.Now()))
	oldPEM, err := os.ReadFile(filepath.Join(g.dir, "ca", pki.CAFile))
	noError(t, err)
	newPEM, err := os.ReadFile(filepath.Join(fresh, pki.CAFile))
	noError(t, err)
	dirOf := func(m *member) string { return filepath.Join(g.dir, "node-"+m.config.Credentials.Identity.ID) }
	replace := func(path string, content []byte) {
		noError(t, os.WriteFile(path+".new", content, 0o600))
		noError(t, os.Rename(path+".new", path))
	}
	writes := 0
	whole := func(step string) {
		t.Helper()
		for _, m := range nodes {
			m.await("a write after "+step, func() error { writes++; return m.write(fmt.Sprint("write ", writes)) })
			m.await("whole gossip after "+step, func() error {
				for _, other := range m.Status().Members {
					if !other.Alive {
						return errors.New(other.ID + " is not alive")
					}
				}
				return nil
			})
		}
	}
	trust := func(pem []byte) {
		for _, m := range nodes {
			before := m.config.Credentials.Changes()
			replace(filepath.Join(dirOf(m), pki.CAFile), pem)
			m.await("another authority", func() error {
				if m.config.Credentials.Changes() == before {
					return errors.New("not read")
				}
				return nil
			})
			whole("trust")
		}
	}
	trust(append(bytes.Clone(oldPEM), newPEM...))
	for _, m := range nodes {
		out := filepath.Join(g.dir, "reissued-"+m.config.Credentials.Identity.ID)
		noError(t, pki.Issue(fresh, out, m.config.Credentials.Identity, time.Now()))
		before := m.config.Credentials.Authorities()[0]
		for _, name := range []string{pki.KeyFile, pki.CertFile} {
			content, err := os.ReadFile(filepath.Join(out, name))
			noError(t, err)
			replace(filepath.Join(dirOf(m), name), content)
		}
		m.await("the new certificate", func() error {
			if m.config.Credentials.Authorities()[0] == before {
				return errors.New("not read")
			}
			return nil
		})
		whole("a certificate")
	}
	trust(newPEM)
	if status, _, err := nodes[0].call(old, http.MethodGet, "/status", nil); err == nil {
		t.Errorf("a certificate of the old authority: %d", status)
	}
}

// TestGossipKeysRotate changes the gossip key of running nodes: first they understand the new one, then they speak it,
// then they forget the old one. After each step of each node the pool is whole; at the end a node with the old key
// alone does not come in.
func TestGossipKeysRotate(t *testing.T) {
	g := newGroup(t)
	one, two := bytes.Repeat([]byte("1"), 32), bytes.Repeat([]byte("2"), 40)
	var keys []*atomic.Pointer[[][]byte]
	g.with = func(c *cluster.Config) {
		k := &atomic.Pointer[[][]byte]{}
		k.Store(&[][]byte{one})
		keys = append(keys, k)
		c.GossipKeys = func() [][]byte { return *k.Load() }
	}
	nodes := g.three()
	for n, step := range [][][]byte{{one, two}, {two, one}, {two}} {
		for i, m := range nodes {
			keys[i].Store(&step)
			m.await("the new keys", func() error {
				if taken := bytes.Count([]byte(m.log.String()), []byte("the keys were replaced")); taken <= n {
					return fmt.Errorf("keys were replaced %d times", taken)
				}
				return nil
			})
		}
		// A node that starts anew finds the others, by whatever each of them speaks and understands.
		nodes[2].stop()
		nodes[2].start()
		nodes[2].awaitReady()
	}
	late := g.add("n4", 0, nodes...) // with the old key
	nodes[0].await("the refusal of the old key", func() error {
		if !bytes.Contains([]byte(nodes[0].log.String()), []byte("decrypt")) {
			return errors.New("nobody came")
		}
		return nil
	})
	if late.Ready() == nil {
		t.Error("a node with the old gossip key came in")
	}
}
