package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	refused  *prometheus.CounterVec
}

// What is refused because the node has enough.
const (
	tooManyConnections = "connections"
	tooManyBytes       = "memory"
	tooManyRequests    = "concurrency"
)

func newMetrics(s *Server, r prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "coffer_requests_total", Help: "API requests by operation and error code; the code is empty for success.",
		}, []string{"operation", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "coffer_request_seconds", Help: "Time from a request's header to its answer.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}, []string{"operation"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "coffer_refused_total",
			Help: "Connections and requests refused because the node had enough, by what it had enough of.",
		}, []string{"reason"}),
	}
	r.MustRegister(m.requests, m.seconds, m.refused)
	for _, reason := range []string{tooManyConnections, tooManyBytes, tooManyRequests} {
		m.refused.WithLabelValues(reason) // so that it is there before the first one
	}
	gauge := func(name, help string, value func() float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("coffer_client_connections", "Open connections of the client port.",
		func() float64 { return float64(s.connections.inUse()) })
	for kind, g := range map[string]*gate{"read": s.reads, "write": s.writes} {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "coffer_requests_in_flight", Help: "Requests that are being carried out.",
			ConstLabels: prometheus.Labels{"kind": kind},
		}, func() float64 { return float64(g.inUse()) }))
	}
	gauge("coffer_client_bytes", "Bodies and answers of the client port in memory.",
		func() float64 { return float64(s.bytes.inUse()) })
	return m
}

// note counts a request and writes its line to the access log.
func (s *Server) note(r *http.Request, x *exchange, took time.Duration) {
	s.metrics.requests.WithLabelValues(x.operation, x.code).Inc()
	s.metrics.seconds.WithLabelValues(x.operation).Observe(took.Seconds())
	attrs := []slog.Attr{
		slog.String("request_id", x.id.String()),
		slog.String("operation", x.operation), slog.String("principal", x.principal),
		slog.String("from", r.RemoteAddr), slog.Int("status", x.status), slog.String("code", x.code),
		slog.String("ms", strconv.FormatFloat(float64(took.Microseconds())/1000, 'f', 3, 64)),
	}
	s.log.LogAttrs(context.Background(), slog.LevelInfo, "request", attrs...)
}
