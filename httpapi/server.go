package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"coffer/iam"
	sm "coffer/secretsmanager"
)

// Config of a Server.
type Config struct {
	Region   string
	Service  *sm.Service
	Keys     iam.Keys
	Ready    func() error // why reads and writes can't be served, nil if they can
	Registry *prometheus.Registry
	Log      *slog.Logger
	Now      func() time.Time
}

// Server answers the client port.
type Server struct {
	operations map[string]operation
	verifier   *iam.Verifier
	ready      func() error
	log        *slog.Logger
	now        func() time.Time
	metrics    *metrics
	http       *http.Server
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
	s := &Server{
		operations: map[string]operation{},
		verifier:   &iam.Verifier{Region: c.Region, Service: "secretsmanager", Keys: c.Keys},
		ready:      c.Ready, log: c.Log, now: c.Now, metrics: newMetrics(c.Registry),
	}
	for _, o := range operations(c.Service) {
		s.operations[o.target] = o
	}
	e := echo.New()
	e.HTTPErrorHandler = protocolError
	e.POST("/", s.handle)
	e.GET("/healthz", func(c echo.Context) error { return c.String(http.StatusOK, "ok\n") })
	e.GET("/readyz", s.handleReady)
	e.GET("/metrics", echo.WrapHandler(promhttp.HandlerFor(c.Registry, promhttp.HandlerOpts{})))
	s.http = &http.Server{
		Handler:           e,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
	}
	return s
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
		_, _ = c.Response().Write(appendError(nil, sm.ErrUnknownOperation))
	}
}

func (s *Server) handleReady(c echo.Context) error {
	if err := s.ready(); err != nil {
		return c.String(http.StatusServiceUnavailable, "not ready: "+err.Error()+"\n")
	}
	return c.String(http.StatusOK, "ready\n")
}

// Serve answers connections of the listener until Shutdown.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown stops taking connections and waits for requests in flight.
func (s *Server) Shutdown(ctx context.Context) error { return s.http.Shutdown(ctx) }

// Handler answers requests without a listener.
func (s *Server) Handler() http.Handler { return s.http.Handler }
