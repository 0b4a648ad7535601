package replication

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"coffer/fsm"
	"coffer/secret"
)

// metrics are told by the leader; other nodes have none of them.
type metrics struct {
	a           *Agent
	deliveries  *prometheus.CounterVec
	failures    *prometheus.CounterVec
	repairs     *prometheus.CounterVec
	orphans     *prometheus.GaugeVec
	lastSuccess *prometheus.GaugeVec
}

var (
	lagSeconds = prometheus.NewDesc("coffer_replication_lag_seconds",
		"Age of the oldest change that a region has not acknowledged.", []string{"region"}, nil)
	lagging = prometheus.NewDesc("coffer_replication_lagging",
		"Secrets with changes that a region has not acknowledged.", []string{"region"}, nil)
	linkLagSeconds = prometheus.NewDesc("coffer_replication_link_lag_seconds",
		"The same for a link, of at most 100 that lag.", []string{"region", "secret", "link"}, nil)
	linkLagChanges = prometheus.NewDesc("coffer_replication_link_lag_changes",
		"Changes that a link's region has not acknowledged, of at most 100 links.", []string{"region", "secret", "link"}, nil)
	linkSuccess = prometheus.NewDesc("coffer_replication_link_last_success_timestamp_seconds",
		"When a link's region last acknowledged a change, of at most 100 links that lag.",
		[]string{"region", "secret", "link"}, nil)
	linkFailed = prometheus.NewDesc("coffer_replication_link_failed",
		"1 for a link whose region refuses it, of at most 100 that lag.", []string{"region", "secret", "link"}, nil)
	peerDown = prometheus.NewDesc("coffer_replication_region_down", "1 while a region can't be replicated to.",
		[]string{"region"}, nil)
)

// shownLinks bounds the links that have metrics of their own.
const shownLinks = 100

func newMetrics(a *Agent, r prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"region"})
	}
	m := &metrics{
		a: a,
		deliveries: counter("coffer_replication_deliveries_total", "States and notices that a region acknowledged.",
			"region"),
		failures: counter("coffer_replication_failures_total", "Attempts that failed, by reason.", "region", "reason"),
		repairs: counter("coffer_replication_repairs_total",
			"Replicas that a comparison found to differ from their primaries. It should stay 0.", "region"),
		orphans:     gauge("coffer_replication_orphans", "Replicas in a region whose links do not exist here any more."),
		lastSuccess: gauge("coffer_replication_last_success_timestamp_seconds", "When a region last acknowledged something."),
	}
	r.MustRegister(m.deliveries, m.failures, m.repairs, m.orphans, m.lastSuccess, m)
	return m
}

func (m *metrics) sent(region string) {
	m.deliveries.WithLabelValues(region).Inc()
	m.lastSuccess.WithLabelValues(region).Set(float64(time.Now().UnixMilli()) / 1000)
}

func (m *metrics) failed(region, reason string) { m.failures.WithLabelValues(region, reason).Inc() }
func (m *metrics) repaired(region string, n int) {
	m.repairs.WithLabelValues(region).Add(float64(n))
}

func (m *metrics) compared(region string, orphans int) {
	m.orphans.WithLabelValues(region).Set(float64(orphans))
	m.repairs.WithLabelValues(region).Add(0)
}

// Describe is part of prometheus.Collector.
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		lagSeconds, lagging, linkLagSeconds, linkLagChanges, linkSuccess, linkFailed, peerDown,
	} {
		out <- d
	}
}

// Collect is part of prometheus.Collector: it reads the lag from the state.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	if m.a.cluster == nil || m.a.cluster.LeaderTerm() == 0 {
		return
	}
	now := m.a.base.Millis()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	_ = m.a.base.Store.View(func(tx *fsm.Tx) error { // damage is reported by the store
		tx.Peers(func(p fsm.Peer) {
			if p.Region == m.a.base.Region {
				return
			}
			down := 0.0
			if p.Down != 0 {
				down = 1
			}
			gauge(peerDown, down, p.Region)
			r := report(tx, p.Region, now)
			gauge(lagging, float64(r.Lagging), p.Region)
			seconds := 0.0
			if r.Lagging > 0 {
				seconds = max(0, float64(now-r.Oldest)/1000)
			}
			gauge(lagSeconds, seconds, p.Region)
			shown := 0
			tx.Outbox(p.Region, "", func(e fsm.OutboxEntry) bool {
				if e.Lag == nil {
					return true
				}
				s := tx.ByName(e.Ref.Account, e.Ref.Name)
				l := tx.Link(p.Region, s)
				labels := []string{p.Region, s.ARN(m.a.base.Region), l.ID}
				gauge(linkLagSeconds, max(0, float64(now-e.Lag.Since)/1000), labels...)
				gauge(linkLagChanges, lagChanges(s, l), labels...)
				gauge(linkSuccess, float64(l.AckedAt)/1000, labels...)
				gauge(linkFailed, one(l.Failed != ""), labels...)
				shown++
				return shown < shownLinks
			})
		})
		return nil
	})
}

func lagChanges(s *secret.Secret, l *secret.Link) float64 {
	return float64(s.Revision - min(l.Acked, s.Revision))
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
