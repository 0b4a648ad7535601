package node

import (
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"coffer/fsm"
)

func (n *Node) registerMetrics(r *prometheus.Registry) {
	gauge := func(name, help string, value func() float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("coffer_raft_leader", "1 on the node that leads the region, 0 elsewhere.", func() float64 { return one(n.cluster.IsLeader()) })
	gauge("coffer_ready", "1 if the node can serve reads and writes.", func() float64 { return one(n.ready() == nil) })
	gauge("coffer_sealed", "1 while the node lacks the region's root key.", func() float64 { return one(n.roots.sealed() != nil) })
	gauge("coffer_raft_term", "Raft term.", func() float64 { return float64(n.cluster.Status().Term) })
	gauge("coffer_raft_applied_index", "Last log entry in the node's state.", func() float64 { return float64(n.store.Applied()) })
	gauge("coffer_raft_last_contact_seconds", "Time since the node heard of a leader; 0 on the leader.", func() float64 { return n.cluster.LastContact().Seconds() })
	gauge("coffer_clock_offset_seconds", "How far the node's clock is ahead of the middle one of the voters'.",
		func() float64 { return n.cluster.ClockAhead().Seconds() })
	gauge("coffer_clock_believed", "1 while the node's clock may be relied on for purges and the deletion of keys.", func() float64 {
		_, err := n.cluster.Time()
		return one(err == nil)
	})
	gauge("coffer_state_bytes", "Size of the state store's file.", func() float64 { return size(filepath.Join(n.config.Data, fsm.File)) })
	gauge("coffer_raft_log_bytes", "Size of the Raft log's file.", func() float64 { return size(n.cluster.LogPath()) })
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
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
