package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"coffer/iam"
	kmsservice "coffer/kms/service"
	"coffer/mistake"
	sm "coffer/secretsmanager"
	"coffer/serving"
)

// Config of a Server.
type Config struct {
	Region  string
	Secrets *sm.Service
	Keys    *kmsservice.Service
	Access  iam.Keys
	// Ready is why reads and writes can't be served, in a word that anyone may read; empty if they can.
	Ready    func() string
	Warnings func() []string // classes of what is wrong though requests are answered
	TLS      *tls.Config     // of the connections; nil for plain HTTP
	Limits   Limits          // [DefaultLimits] if zero
	Registry *prometheus.Registry
	Log      *slog.Logger
	Now      func() time.Time
}

// Server answers the client port.
type Server struct {
	operations  map[string]operation
	ready       func() string
	warnings    func() []string
	log         *slog.Logger
	now         func() time.Time
	metrics     *metrics
	tls         *tls.Config
	http        *http.Server
	limits      Limits
	connections *quota
	bytes       *quota
	reads       *gate
	writes      *gate
}

// How long a client may take; a slow one can't hold the server.
const (
	headerTimeout  = 5 * time.Second
	requestTimeout = 15 * time.Second
	answerTimeout  = 30 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeader      = 16 << 10
)

// New makes a server.
func New(c Config) *Server {
	l := c.Limits
	if l == (Limits{}) {
		l = DefaultLimits
	}
	s := &Server{
		operations: map[string]operation{}, ready: c.Ready, warnings: c.Warnings, log: c.Log, now: c.Now,
		tls: c.TLS, limits: l,
		connections: newQuota(int64(l.Connections), int64(l.ConnectionsPerAddress)),
		bytes:       newQuota(l.Bytes, l.BytesPerAddress),
		reads:       newGate(l.Reads, l.Wait), writes: newGate(l.Writes, l.Wait),
	}
	s.metrics = newMetrics(s, c.Registry)
	s.add(secretsManager(c.Secrets), &iam.Verifier{Region: c.Region, Service: "secretsmanager", Keys: c.Access})
	s.add(keyManagement(c.Keys), &iam.Verifier{Region: c.Region, Service: "kms", Keys: c.Access})
	e := echo.New()
	e.HTTPErrorHandler = protocolError
	e.POST("/", s.handle)
	e.GET("/healthz", func(c echo.Context) error { return c.String(http.StatusOK, "ok\n") })
	e.GET("/readyz", s.handleReady)
	e.GET("/metrics", echo.WrapHandler(promhttp.HandlerFor(c.Registry, promhttp.HandlerOpts{})))
	s.http = &http.Server{
		Handler:           untilSigned(mistake.Handler(c.Log, e, failed)),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
	}
	return s
}

// failed answers a request that failed outside of what [Server.handle] catches.
func failed(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Del("Content-Length")
	w.WriteHeader(http.StatusInternalServerError)
	_, _ = w.Write(appendError(nil, serving.ToAPIError(mistake.Err)))
}

// untilSigned has connections end after an answer, unless a handler finds the request signed: whoever can't sign
// can't keep connections for himself.
func untilSigned(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		h.ServeHTTP(w, r)
	})
}

func (s *Server) add(operations []operation, verifier *iam.Verifier) {
	for _, o := range operations {
		o.verifier = verifier
		s.operations[o.target] = o
	}
}

// protocolError answers what is no operation at all: another path or method.
func protocolError(err error, c echo.Context) {
	status := http.StatusNotFound
	var known *echo.HTTPError
	if errors.As(err, &known) {
		status = known.Code
	}
	if !c.Response().Committed {
		c.Response().Header().Set("Content-Type", contentType)
		c.Response().WriteHeader(status)
		_, _ = c.Response().Write(appendError(nil, serving.ErrUnknownOperation))
	}
}

func (s *Server) handleReady(c echo.Context) error {
	if why := s.ready(); why != "" {
		return c.String(http.StatusServiceUnavailable, "not ready: "+why+"\n")
	}
	text := "ready\n"
	for _, w := range s.warnings() {
		text += "warning: " + w + "\n"
	}
	return c.String(http.StatusOK, text)
}

// Serve answers connections of the listener until Shutdown.
func (s *Server) Serve(l net.Listener) error {
	l = &limitedListener{l, s.connections, s.metrics.refused.WithLabelValues(tooManyConnections)}
	if s.tls != nil {
		l = tls.NewListener(l, s.tls)
	}
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown stops taking connections and waits for requests in flight.
func (s *Server) Shutdown(ctx context.Context) error { return s.http.Shutdown(ctx) }

// Handler answers requests without a listener.
func (s *Server) Handler() http.Handler { return s.http.Handler }
