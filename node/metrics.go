package node

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"coffer/fsm"
)

// registerMetrics registers what is looked up when it is asked for. docs/operations.md has a table of all metrics.
func (n *Node) registerMetrics(r *prometheus.Registry) {
	gauge := func(name, help string, value func() float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	counter := func(name, help string, value func() float64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, value))
	}
	gauge("coffer_ready", "1 if the node can serve reads and writes.", func() float64 { return one(n.ready() == nil) })
	gauge("coffer_sealed", "1 while the node lacks the region's root key.",
		func() float64 { return one(n.roots.sealed() != nil) })

	gauge("coffer_raft_leader", "1 on the node that leads the region, 0 elsewhere.",
		func() float64 { return one(n.cluster.IsLeader()) })
	gauge("coffer_other_clusters", "Other clusters of this region that the node has found; there should be none.",
		func() float64 { return float64(len(n.cluster.OtherClusters())) })
	gauge("coffer_raft_term", "Raft term.", func() float64 { return float64(n.cluster.Status().Term) })
	gauge("coffer_raft_applied_index", "Last log entry in the node's state.",
		func() float64 { return float64(n.store.Applied()) })
	gauge("coffer_raft_applying_seconds", "How long the log entry that is being applied has taken, in whole seconds.",
		func() float64 { return n.cluster.ApplyingFor().Seconds() })
	gauge("coffer_raft_last_contact_seconds", "Time since the node heard of a leader; 0 on the leader.",
		func() float64 { return n.cluster.LastContact().Seconds() })
	gauge("coffer_proposals_waiting", "Commands on this node that wait for their turn in the log.", func() float64 {
		waiting, _ := n.cluster.Proposals()
		return float64(waiting)
	})
	counter("coffer_proposals_expired_total", "Commands dropped since nobody waited for them any more.", func() float64 {
		_, expired := n.cluster.Proposals()
		return float64(expired)
	})

	gauge("coffer_clock_offset_seconds", "How far the node's clock is ahead of the middle one of the voters'.",
		func() float64 { return n.cluster.ClockAhead().Seconds() })
	gauge("coffer_clock_believed", "1 while the node's clock may be relied on for purges and the deletion of keys.",
		func() float64 { _, err := n.cluster.Time(); return one(err == nil) })
	n.registerStorage(gauge)
	n.registerBuild(r)
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
}

func (n *Node) registerStorage(gauge func(name, help string, value func() float64)) {
	gauge("coffer_state_bytes", "Size of the state store's file.",
		func() float64 { return size(filepath.Join(n.config.Data, fsm.File)) })
	gauge("coffer_state_free_bytes", "Of the state store's file, what holds nothing.",
		func() float64 { return float64(n.store.FreeBytes()) })
	gauge("coffer_raft_log_bytes", "Size of the Raft log's file.", func() float64 { return size(n.cluster.LogPath()) })
	gauge("coffer_unflushed_bytes", "What is applied and not in the state store's file yet.", func() float64 {
		bytes, _ := n.store.Backlog()
		return float64(bytes)
	})
	gauge("coffer_unflushed_age_seconds", "Since when something is applied and not in the state store's file yet.",
		func() float64 {
			_, since := n.store.Backlog()
			if since.IsZero() {
				return 0
			}
			return time.Since(since).Seconds()
		})
	gauge("coffer_disk_free_bytes", "Space that is left where the data directory is.",
		func() float64 { free, _ := space(n.config.Data); return free })
	gauge("coffer_disk_size_bytes", "Space where the data directory is.",
		func() float64 { _, size := space(n.config.Data); return size })
}

// registerBuild registers what this program is, and when its certificates end.
func (n *Node) registerBuild(r *prometheus.Registry) {
	expires := func(certificate string, at func() (time.Time, error)) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "coffer_certificate_expiry_timestamp_seconds", Help: "When a certificate ends.",
			ConstLabels: prometheus.Labels{"certificate": certificate},
		}, func() float64 {
			t, err := at()
			if err != nil {
				return 0
			}
			return float64(t.Unix())
		}))
	}
	expires("peer", n.secrets.peer.Expires)
	if n.clientCert != nil {
		expires("client", n.clientCert.Expires)
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "coffer_build_info", Help: "1; the labels say what runs.",
		ConstLabels: prometheus.Labels{
			"version": n.options.Version, "revision": revision(), "go_version": runtime.Version(),
			"format": strconv.FormatUint(fsm.Formats().Newest, 10),
		},
	})
	build.Set(1)
	r.MustRegister(build)
}

func revision() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return ""
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func size(path string) float64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return float64(info.Size())
}
