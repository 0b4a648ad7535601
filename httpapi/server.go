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
	kmsservice "coffer/kms/service"
	sm "coffer/secretsmanager"
	"coffer/serving"
)

// Config of a Server.
type Config struct {
	Region   string
	Secrets  *sm.Service
	Keys     *kmsservice.Service
	Access   iam.Keys
	Ready    func() error // why reads and writes can't be served, nil if they can
	Registry *prometheus.Registry
	Log      *slog.Logger
	Now      func() time.Time
}

// Server answers the client port.
type Server struct {
	operations map[string]operation
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
		ready:      c.Ready, log: c.Log, now: c.Now, metrics: newMetrics(c.Registry),
	}
	s.add(secretsManager(c.Secrets), &iam.Verifier{Region: c.Region, Service: "secretsmanager", Keys: c.Access})
	s.add(keyManagement(c.Keys), &iam.Verifier{Region: c.Region, Service: "kms", Keys: c.Access})
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
