package pki

import (
	"context"
	"crypto/tls"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Reloading is a certificate with its key, read again when their files change. What does not fit, as when only one of
// the files is new yet, or what Check refuses, leaves the old certificate in use.
type Reloading struct {
	CertFile, KeyFile string
	Check             func(*tls.Certificate) error // may be nil
	Log               *slog.Logger                 // may be nil

	mu      sync.Mutex // guards below
	cert    *tls.Certificate
	read    time.Time // the files' latest change that was read
	checked time.Time
}

const certCheckInterval = time.Second

// Get is the certificate as it is now. It fails only before a certificate was read.
func (r *Reloading) Get() (*tls.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cert != nil && time.Since(r.checked) < certCheckInterval {
		return r.cert, nil
	}
	r.checked = time.Now()
	changed := latest(r.CertFile, r.KeyFile)
	if r.cert != nil && changed.Equal(r.read) {
		return r.cert, nil
	}
	cert, err := tls.LoadX509KeyPair(r.CertFile, r.KeyFile)
	if err == nil && r.Check != nil {
		err = r.Check(&cert)
	}
	switch {
	case err != nil && r.cert == nil:
		return nil, err
	case err != nil:
		r.tell(slog.LevelWarn, "a new certificate can't be used; the old one stays", "file", r.CertFile, "error", err)
		return r.cert, nil
	case r.cert != nil:
		r.tell(slog.LevelInfo, "a certificate was replaced", "file", r.CertFile, "expires", cert.Leaf.NotAfter)
	}
	r.cert, r.read = &cert, changed
	return r.cert, nil
}

// Expires is when the certificate ends. It fails as [Reloading.Get] does.
func (r *Reloading) Expires() (time.Time, error) {
	cert, err := r.Get()
	if err != nil {
		return time.Time{}, err
	}
	return cert.Leaf.NotAfter, nil
}

func (r *Reloading) tell(level slog.Level, message string, args ...any) {
	if r.Log != nil {
		r.Log.Log(context.Background(), level, message, args...)
	}
}

func latest(paths ...string) (at time.Time) {
	for _, p := range paths {
		if info, err := os.Stat(p); err == nil && info.ModTime().After(at) {
			at = info.ModTime()
		}
	}
	return at
}
