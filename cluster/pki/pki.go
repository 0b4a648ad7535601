// Package pki makes and reads the certificates of a cluster's peer ports.
//
// One certificate authority stands for one cluster (of one or more regions). Who a certificate is for
// stands in its DNS names, so that ordinary TLS verification checks it:
//
//	<id>.<region>.node.coffer and <region>.node.coffer    a node
//	<name>.<region>.operator.coffer                       an operator, one such name for each region
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"coffer/kms/rootkey"
)

// Role is what a certificate lets its holder do.
type Role string

// The roles.
const (
	Node     Role = "node"
	Operator Role = "operator"
)

// Identity is who a certificate is for.
type Identity struct {
	Role   Role
	Region string
	ID     string
}

const domain = "coffer"

var validID = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Check says what is wrong with an identity that a certificate is wanted for.
func (i Identity) Check() error {
	if !validID.MatchString(i.ID) {
		return fmt.Errorf("id %q: wanted 1 to 63 lower-case letters, digits and hyphens", i.ID)
	}
	if !validID.MatchString(i.Region) {
		return fmt.Errorf("region %q: wanted a name such as us-east-1", i.Region)
	}
	return nil
}

// Name is the DNS name that only this identity's certificate has.
func (i Identity) Name() string {
	return i.ID + "." + i.Region + "." + string(i.Role) + "." + domain
}

// AnyNode is the DNS name that every node of region has.
func AnyNode(region string) string { return region + "." + string(Node) + "." + domain }

// IdentityOf reads who a verified certificate is for. An operator of several regions is that of the first.
func IdentityOf(c *x509.Certificate) (Identity, error) {
	ids := identitiesOf(c)
	if len(ids) == 0 {
		return Identity{}, errors.New("the certificate names no node or operator of Coffer")
	}
	return ids[0], nil
}

func identitiesOf(c *x509.Certificate) (ids []Identity) {
	for _, name := range c.DNSNames {
		if parts := strings.Split(name, "."); len(parts) == 4 && parts[3] == domain {
			ids = append(ids, Identity{Role: Role(parts[2]), Region: parts[1], ID: parts[0]})
		}
	}
	return ids
}

// The files of an authority and of an identity in their directories.
const (
	CAFile   = "ca.pem"
	CAKey    = "ca-key.pem"
	CertFile = "cert.pem"
	KeyFile  = "key.pem"
)

const (
	caLife   = 10 * 365 * 24 * time.Hour
	leafLife = 397 * 24 * time.Hour
)

// CreateAuthority makes a certificate authority in dir. It never overwrites one.
func CreateAuthority(dir string, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "Coffer cluster authority"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(caLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	return issue(template, template, key, key, filepath.Join(dir, CAFile), filepath.Join(dir, CAKey))
}

// Issue makes a certificate and its key for identity in dir, signed by the authority in caDir, and
// copies the authority's certificate beside them. It never overwrites a file. The certificate of an operator is for
// the other regions, too.
func Issue(caDir, dir string, id Identity, now time.Time, otherRegions ...string) error {
	if err := id.Check(); err != nil {
		return err
	}
	if len(otherRegions) > 0 && id.Role != Operator {
		return errors.New("only an operator can be of several regions")
	}
	caCert, caPEM, err := readCertificate(filepath.Join(caDir, CAFile))
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(caDir, CAFile), filepath.Join(caDir, CAKey))
	if err != nil {
		return fmt.Errorf("load the certificate authority in %s: %w", caDir, err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	names := []string{id.Name()}
	if id.Role == Node {
		names = append(names, AnyNode(id.Region))
	}
	for _, region := range otherRegions {
		other := Identity{id.Role, region, id.ID}
		if err := other.Check(); err != nil {
			return err
		}
		names = append(names, other.Name())
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: id.Name()},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(leafLife),
		DNSNames:    names,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if err := issue(template, caCert, key, pair.PrivateKey, filepath.Join(dir, CertFile),
		filepath.Join(dir, KeyFile)); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, CAFile), caPEM, 0o644)
}

func issue(template, parent *x509.Certificate, key *ecdsa.PrivateKey, signer crypto.PrivateKey, certPath,
	keyPath string) error {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(certPath), 0o700); err != nil {
		return err
	}
	if err := create(keyPath, "PRIVATE KEY", keyDER, 0o600); err != nil {
		return err
	}
	return create(certPath, "CERTIFICATE", der, 0o644)
}

func create(path, kind string, der []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	return errors.Join(pem.Encode(f, &pem.Block{Type: kind, Bytes: der}), f.Sync(), f.Close())
}

func readCertificate(path string) (*x509.Certificate, []byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, nil, fmt.Errorf("%s holds no certificate in PEM", path)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	return c, raw, err
}

// Credentials are a node's or an operator's certificate and key, and the authorities that it trusts.
type Credentials struct {
	Identity Identity

	cert    *Reloading
	trusted *file[*authorities]
	revoked *file[revocations] // nil without a list
}

// Load reads credentials from files and verifies that they belong together. caFile may hold several authorities; it is
// read again when it changes, and so are the others.
func Load(caFile, certFile, keyFile string) (*Credentials, error) {
	c := &Credentials{}
	var err error
	if c.trusted, err = openFile(caFile, readAuthorities, c.tell); err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	if _, err := rootkey.ReadPrivate(keyFile); err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	c.cert = &Reloading{CertFile: certFile, KeyFile: keyFile, Check: func(cert *tls.Certificate) error {
		_, err := cert.Leaf.Verify(x509.VerifyOptions{
			Roots: c.trusted.get().pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		})
		if err != nil {
			return fmt.Errorf("it is not valid under the authorities in %s: %w", caFile, err)
		}
		id, err := IdentityOf(cert.Leaf)
		if err == nil && c.Identity != (Identity{}) && id != c.Identity {
			err = fmt.Errorf("it is for %s %s of region %s, not for %s %s of region %s",
				id.Role, id.ID, id.Region, c.Identity.Role, c.Identity.ID, c.Identity.Region)
		}
		return err
	}}
	cert, err := c.cert.Get()
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", certFile, keyFile, err)
	}
	c.Identity, err = IdentityOf(cert.Leaf)
	return c, err
}

// Expires is when the certificate ends. It fails as [Reloading.Get] does.
func (c *Credentials) Expires() (time.Time, error) { return c.cert.Expires() }

// LogTo makes c tell of its files being replaced.
func (c *Credentials) LogTo(log *slog.Logger) { c.cert.Log = log }

func (c *Credentials) tell(level slog.Level, message string, args ...any) {
	if c.cert != nil {
		c.cert.tell(level, message, args...)
	}
}

// Server is the TLS configuration of a peer port: it takes connections only from certificates of the
// same authority and region, with one of the protocols; and those with the protocol regions only from nodes of other
// regions.
func (c *Credentials) Server(regions string, protocols ...string) *tls.Config {
	config := &tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.cert.Get() },
		ClientAuth:     tls.RequireAndVerifyClientCert,
		NextProtos:     append([]string{regions}, protocols...),
		// A resumed session would be verified under the authorities of when it began.
		SessionTicketsDisabled: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			if err := c.Refuses(state.PeerCertificates[0]); err != nil {
				return err
			}
			switch state.NegotiatedProtocol {
			case "":
				return errors.New("the connection names no protocol of a peer port")
			case regions:
				return c.otherRegion(state)
			}
			return c.sameRegion(state)
		},
	}
	return &tls.Config{
		MinVersion: config.MinVersion,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			now := config.Clone()
			now.ClientCAs = c.trusted.get().pool
			return now, nil
		},
	}
}

// Client is the TLS configuration to reach the node with the id in a region, or any node there when id is empty.
func (c *Credentials) Client(region, id, protocol string) *tls.Config {
	name := AnyNode(region)
	if id != "" {
		name = Identity{Node, region, id}.Name()
	}
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.cert.Get() },
		RootCAs:              c.trusted.get().pool,
		ServerName:           name,
		NextProtos:           []string{protocol},
		VerifyConnection:     func(state tls.ConnectionState) error { return c.Refuses(state.PeerCertificates[0]) },
	}
}

func (c *Credentials) sameRegion(state tls.ConnectionState) error {
	ids := identitiesOf(state.PeerCertificates[0])
	for _, id := range ids {
		if id.Region == c.Identity.Region {
			return nil
		}
	}
	if len(ids) == 0 {
		return errors.New("the certificate names no node or operator of Coffer")
	}
	return fmt.Errorf("a certificate of region %s at a peer port of region %s", ids[0].Region, c.Identity.Region)
}

func (c *Credentials) otherRegion(state tls.ConnectionState) error {
	id, err := IdentityOf(state.PeerCertificates[0])
	switch {
	case err != nil:
		return err
	case id.Role != Node || id.Region == c.Identity.Region:
		return fmt.Errorf("a certificate of %s %s of region %s, where nodes of other regions call", id.Role, id.ID, id.Region)
	}
	return nil
}
