package node

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// timings are how long things take that the rooms below measure.
type timings struct {
	logWrite, commit, barrier, flush, snapshot prometheus.Histogram
}

func newTimings(r prometheus.Registerer) *timings {
	histogram := func(name, help string, first float64, buckets int) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(first, 2, buckets),
		})
		r.MustRegister(h)
		return h
	}
	return &timings{
		logWrite: histogram("coffer_raft_log_write_seconds", "Writes of the Raft log, their sync included.", 0.0001, 17),
		commit: histogram("coffer_raft_commit_seconds",
			"Batches of commands, on the leader: from proposing one until it was applied.", 0.0001, 17),
		barrier: histogram("coffer_read_barrier_seconds",
			"How long reads waited for the word that the node's state is up to date.", 0.0001, 15),
		flush:    histogram("coffer_flush_seconds", "Writes of applied entries to the state store's file.", 0.001, 15),
		snapshot: histogram("coffer_snapshot_seconds", "Snapshots for Raft.", 0.01, 15),
	}
}

// by makes a histogram take times.
func by(h prometheus.Histogram) func(time.Duration) {
	return func(took time.Duration) { h.Observe(took.Seconds()) }
}
