package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coffer/cluster/pki"
	"coffer/internal/testcluster"
)

// TestStrangersAreRefused shows that neither another cluster's certificates nor another region's get through a
// node's peer port, nor through its gossip port even with the right gossip key.
func TestStrangersAreRefused(t *testing.T) {
	c := startCluster(t, 1)
	n := c.Nodes[0]
	dir := t.TempDir()
	noError(t, pki.CreateAuthority(filepath.Join(dir, "ca"), time.Now()))
	load := func(ca, name string, id pki.Identity) *pki.Credentials {
		out := filepath.Join(dir, name)
		noError(t, pki.Issue(ca, out, id, time.Now()))
		return must(pki.Load(filepath.Join(out, pki.CAFile), filepath.Join(out, pki.CertFile),
			filepath.Join(out, pki.KeyFile)))(t)
	}
	ours := filepath.Join(c.Dir, "ca")
	right := load(ours, "right", pki.Identity{Role: pki.Node, Region: testcluster.Region, ID: "n9"})
	other := load(filepath.Join(dir, "ca"), "other-cluster", pki.Identity{
		Role: pki.Node, Region: testcluster.Region, ID: "n9",
	})
	region := load(ours, "other-region", pki.Identity{Role: pki.Node, Region: "eu-west-1", ID: "n9"})
	operator := load(ours, "operator", pki.Identity{Role: pki.Operator, Region: testcluster.Region, ID: "eve"})

	// dial reads one byte, since in TLS 1.3 a server refuses a client's certificate after the handshake.
	dial := func(config *tls.Config) error {
		config.InsecureSkipVerify = true // the server's refusal is what is tested
		conn, err := tls.Dial("tcp", n.PeerAddr(), config)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, _ = conn.Write([]byte("GET /status HTTP/1.1\r\nHost: x\r\n\r\n"))
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, err = conn.Read(make([]byte, 1))
		return err
	}
	noError(t, dial(right.Client(right.Identity.Region, "", "http/1.1")))
	for name, config := range map[string]*tls.Config{
		"another cluster's node": other.Client(other.Identity.Region, "", "http/1.1"),
		"another region's node":  region.Client(region.Identity.Region, "", "http/1.1"),
		"no certificate":         {NextProtos: []string{"http/1.1"}},
		"another protocol":       right.Client(right.Identity.Region, "", "h2"),
		"Raft as an operator":    operator.Client(operator.Identity.Region, "", "coffer-raft"),
	} {
		if err := dial(config); err == nil {
			t.Errorf("%s was let in", name)
		}
	}
	old := right.Client(right.Identity.Region, "", "http/1.1")
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if err := dial(old); err == nil {
		t.Error("TLS 1.2 was let in")
	}
	call := func(who *pki.Credentials, method, path string) int {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: who.Client(who.Identity.Region, "", "http/1.1")}}
		defer client.CloseIdleConnections()
		req := must(http.NewRequestWithContext(t.Context(), method, "https://"+n.PeerAddr()+path, nil))(t)
		resp := must(client.Do(req))(t)
		defer resp.Body.Close()
		return resp.StatusCode
	}
	if got := call(operator, http.MethodPost, "/propose"); got != http.StatusForbidden {
		t.Errorf("an operator proposing: %d", got)
	}
	if got := call(right, http.MethodPost, "/restore"); got != http.StatusForbidden {
		t.Errorf("a node restoring: %d", got)
	}

	// A node of another cluster, with the same gossip key, does not become part of the pool.
	stranger := newCluster(t, 1, "--bootstrap-expect", "0", "--join", n.GossipAddr())
	noError(t, stranger.UseKeysOf(c))
	noError(t, stranger.UseGossipKeyOf(c))
	noError(t, stranger.Nodes[0].Start())
	seen, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	err := testcluster.Eventually(seen, "the stranger", func() error {
		if _, body, err := stranger.Nodes[0].Get("/readyz"); err == nil && strings.HasPrefix(body, "ready") {
			return nil
		}
		return errors.New("not in")
	})
	if err == nil {
		t.Error("a node of another cluster became ready")
	}
	if out, err := n.Operate(t.Context(), "cluster", "members"); err != nil ||
		wantMembers(out, map[string]bool{"n1": true}) != nil {
		t.Errorf("members: %v %s", err, out)
	}
	log := must(os.ReadFile(n.Log))(t)
	if !strings.Contains(string(log), "decrypt") {
		t.Error("the gossip port did not refuse what it could not decrypt")
	}
}

// TestWrongRootKeyIsRefused starts a node over its data with another root key, and lets a new node with
// another root key try to join.
func TestWrongRootKeyIsRefused(t *testing.T) {
	c := startCluster(t, 1)
	other := newCluster(t, 1)
	n := c.Nodes[0]
	create(t, n.Client(), "x", "v")
	n.Stop()
	before := must(os.ReadFile(filepath.Join(n.Data, "state.db")))(t)
	n.UseRootKeyOf(other)
	noError(t, n.Start())
	if code := n.Wait(); code == 0 || !strings.Contains(n.LogTail(), "root key is not the one") {
		t.Errorf("exit code %d: %s", code, n.LogTail())
	}
	if after := must(os.ReadFile(filepath.Join(n.Data, "state.db")))(t); string(before) != string(after) {
		t.Error("the state was touched")
	}
	n.UseRootKeyOf(c)
	noError(t, n.Start())
	noError(t, n.AwaitReady(ctx(t, time.Minute)))
	late := must(c.Add())(t)
	late.UseRootKeyOf(other)
	noError(t, late.Start())
	noError(t, testcluster.Eventually(ctx(t, 30*time.Second), "the refusal", func() error {
		if !strings.Contains(late.LogTail(), "another root key") {
			return errors.New("not refused yet")
		}
		return nil
	}))
}

// TestCertificateIsReloaded replaces the client port's certificate while the node runs.
func TestCertificateIsReloaded(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write := func(serial int64) {
		k := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
		template := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "localhost"}, NotAfter: time.Now().Add(time.Hour),
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		}
		der := must(x509.CreateCertificate(rand.Reader, template, template, k.Public(), k))(t)
		pkcs := must(x509.MarshalPKCS8PrivateKey(k))(t)
		noError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs}), 0o600))
		noError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	}
	write(1)
	c := newCluster(t, 1, "--tls-cert", cert, "--tls-key", key)
	n := c.Nodes[0]
	noError(t, n.Start())
	serves := func(serial int64) error {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(n.Endpoint, "http://"), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			return err
		}
		defer conn.Close()
		if got := conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64(); got != serial {
			return errors.New("another certificate")
		}
		return nil
	}
	noError(t, testcluster.Eventually(ctx(t, 30*time.Second), "the first certificate", func() error { return serves(1) }))
	write(2)
	noError(t, testcluster.Eventually(ctx(t, 30*time.Second), "the second certificate", func() error { return serves(2) }))
}

// TestPeerCertificateIsReplaced gives running nodes new certificates: they use them without a restart, and none that is
// for another node.
func TestPeerCertificateIsReplaced(t *testing.T) {
	c := startCluster(t, 3)
	replace := func(n *testcluster.Node, id string) {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "new")
		noError(t, pki.Issue(filepath.Join(c.Dir, "ca"), dir,
			pki.Identity{Role: pki.Node, Region: testcluster.Region, ID: id}, time.Now()))
		for _, name := range []string{pki.KeyFile, pki.CertFile} {
			noError(t, os.Rename(filepath.Join(dir, name), filepath.Join(c.Dir, n.ID, name)))
		}
	}
	operator := must(pki.Load(filepath.Join(c.Dir, "operator", pki.CAFile), filepath.Join(c.Dir, "operator", pki.CertFile),
		filepath.Join(c.Dir, "operator", pki.KeyFile)))(t)
	serial := func(n *testcluster.Node) string {
		t.Helper()
		conn, err := tls.Dial("tcp", n.PeerAddr(), operator.Client(operator.Identity.Region, n.ID, "http/1.1"))
		noError(t, err)
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	for _, n := range c.Nodes {
		before := serial(n)
		replace(n, n.ID)
		noError(t, testcluster.Eventually(ctx(t, time.Minute), "the new certificate", func() error {
			if serial(n) == before {
				return errors.New("still the old one")
			}
			return nil
		}))
	}
	now := serial(c.Nodes[0])
	replace(c.Nodes[0], "n9")
	c.Nodes[1].Kill() // it has to connect to the others anew
	noError(t, c.Nodes[1].Start())
	noError(t, c.AwaitReady(ctx(t, time.Minute)))
	create(t, c.Nodes[1].Client(), "s", "v")
	noError(t, testcluster.Eventually(ctx(t, time.Minute), "the refusal of another node's certificate", func() error {
		if serial(c.Nodes[0]) != now {
			t.Fatal("it uses a certificate that is for another node")
		}
		if !strings.Contains(c.Nodes[0].LogTail(), "the old one stays") {
			return errors.New("it has not looked at it yet")
		}
		return nil
	}))
}
