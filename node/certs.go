package node

import (
	"crypto/tls"
	"log/slog"
	"os"
	"sync"
	"time"
)

// reloadingCert is the client port's certificate, read again when its files change. A pair of files that
// don't fit yet (one of them is new, the other not) leaves the old certificate in use.
type reloadingCert struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex // guards below
	cert    *tls.Certificate
	read    time.Time // the files' latest change that was read
	checked time.Time
}

const certCheckInterval = time.Second

func (r *reloadingCert) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cert != nil && time.Since(r.checked) < certCheckInterval {
		return r.cert, nil
	}
	r.checked = time.Now()
	changed := latest(r.certFile, r.keyFile)
	if r.cert != nil && changed.Equal(r.read) {
		return r.cert, nil
	}
	cert, err := tls.LoadX509KeyPair(r.certFile, r.keyFile)
	if err != nil {
		if r.cert == nil {
			return nil, err
		}
		r.log.Warn("the client port's new certificate can't be used; the old one stays", "error", err)
		return r.cert, nil
	}
	if r.cert != nil {
		r.log.Info("the client port has a new certificate", "expires", cert.Leaf.NotAfter)
	}
	r.cert, r.read = &cert, changed
	return r.cert, nil
}

func latest(paths ...string) (at time.Time) {
	for _, p := range paths {
		if info, err := os.Stat(p); err == nil && info.ModTime().After(at) {
			at = info.ModTime()
		}
	}
	return at
}
