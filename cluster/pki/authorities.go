package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
)

// authorities are the certificates of a file, of which each is trusted.
type authorities struct {
	certs []*x509.Certificate
	pool  *x509.CertPool
}

func readAuthorities(file string) (*authorities, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	a := &authorities{pool: x509.NewCertPool()}
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s holds a %s: wanted certificates in PEM only", file, block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if !c.IsCA {
			return nil, fmt.Errorf("%s holds the certificate of %s, which is no authority", file, c.Subject.CommonName)
		}
		a.certs = append(a.certs, c)
		a.pool.AddCert(c)
	}
	if len(a.certs) == 0 {
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}
	return a, nil
}

// Authorities are the SHA-256 of the authorities that are trusted now. The first one issued this certificate: so nodes
// of which some have a new authority's certificate, and others an old one's, understand each other while they trust
// both.
func (c *Credentials) Authorities() (sums [][sha256.Size]byte) {
	own, err := c.cert.Get()
	for _, ca := range c.trusted.get().certs {
		sum := sha256.Sum256(ca.Raw)
		if err == nil && own.Leaf.CheckSignatureFrom(ca) == nil {
			sums = append([][sha256.Size]byte{sum}, sums...)
		} else {
			sums = append(sums, sum)
		}
	}
	return sums
}
