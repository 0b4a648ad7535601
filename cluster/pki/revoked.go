package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// backdate is how long before its making a certificate is valid, for clocks that are behind.
const backdate = time.Hour

// revocations say, by the name of an identity, which of its certificates do not count: those made until then.
type revocations map[string]time.Time

// readRevoked reads a list of revocations: a line each, with a name and a time (RFC 3339). Lines that begin with # are
// comments.
func readRevoked(path string) (revocations, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	list := revocations{}
	for i, line := range strings.Split(string(raw), "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		name, text, _ := strings.Cut(line, " ")
		until, err := time.Parse(time.RFC3339, strings.TrimSpace(text))
		if err != nil || !strings.HasSuffix(name, "."+domain) {
			return nil, fmt.Errorf("line %d of %s is no revocation: wanted what `coffer pki revoke` writes", i+1, path)
		}
		if until.After(list[name]) {
			list[name] = until
		}
	}
	return list, nil
}

func (r revocations) check(c *x509.Certificate) error {
	for _, id := range identitiesOf(c) {
		if until, listed := r[id.Name()]; listed && !c.NotBefore.Add(backdate).After(until) {
			return fmt.Errorf("the certificate of %s %s of region %s was revoked", id.Role, id.ID, id.Region)
		}
	}
	return nil
}

// Revoke adds to a list, which it makes if there is none, that the certificates which an identity has until now do not
// count any more. Those that are made for it later do.
func Revoke(path string, id Identity, now time.Time) error {
	if err := id.Check(); err != nil {
		return err
	}
	if id.Role != Node && id.Role != Operator {
		return fmt.Errorf("role %q: wanted %s or %s", id.Role, Node, Operator)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s %s\n", id.Name(), now.UTC().Format(time.RFC3339))
	return errors.Join(err, f.Sync(), f.Close())
}

// UseRevoked has a list of revocations count, read again when it changes.
func (c *Credentials) UseRevoked(path string) (err error) {
	c.revoked, err = openFile(path, readRevoked, c.tell)
	return err
}

// Refuses says why the certificate of a connection that was made before would be refused now; nil if it would not.
func (c *Credentials) Refuses(cert *x509.Certificate) error {
	_, err := cert.Verify(x509.VerifyOptions{
		Roots: c.trusted.get().pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return err
	}
	if c.revoked == nil {
		return nil
	}
	return c.revoked.get().check(cert)
}

// Changes counts how often the authorities or the revocations changed.
func (c *Credentials) Changes() uint64 {
	_ = c.trusted.get()
	n := c.trusted.count()
	if c.revoked != nil {
		_ = c.revoked.get()
		n += c.revoked.count()
	}
	return n
}
