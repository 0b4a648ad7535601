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
}

func newMetrics(r *prometheus.Registry) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "coffer_requests_total", Help: "API requests by operation and error code; the code is empty for success.",
		}, []string{"operation", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "coffer_request_seconds", Help: "Time from a request's header to its answer.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}, []string{"operation"}),
	}
	r.MustRegister(m.requests, m.seconds)
	return m
}

// note counts a request and writes its line to the access log.
func (s *Server) note(r *http.Request, rec *record, took time.Duration) {
	s.metrics.requests.WithLabelValues(rec.operation, rec.code).Inc()
	s.metrics.seconds.WithLabelValues(rec.operation).Observe(took.Seconds())
	attrs := []slog.Attr{
		slog.String("request_id", rec.id), slog.String("operation", rec.operation), slog.String("principal", rec.accessKey),
		slog.String("from", r.RemoteAddr), slog.Int("status", rec.status), slog.String("code", rec.code),
		slog.String("ms", strconv.FormatFloat(float64(took.Microseconds())/1000, 'f', 3, 64)),
	}
	s.log.LogAttrs(context.Background(), slog.LevelInfo, "request", attrs...)
}
