package cluster_test

import (
	"net/http"
	"strings"
	"testing"

	"coffer/cluster"
	"coffer/cluster/pki"
)

// TestMistakeInCallIsAnswered has an operator's call panic with something that nobody may read.
func TestMistakeInCallIsAnswered(t *testing.T) {
	const held = "correct horse battery staple"
	g := newGroup(t)
	g.calls = []cluster.Call{{
		Pattern: "GET /clumsy", From: []cluster.Caller{cluster.Operators},
		Do: func(*cluster.Cluster, http.ResponseWriter, *http.Request) { panic(held) },
	}}
	m := g.add("n1", 1)
	m.awaitReady()
	for range 2 { // the node goes on
		status, answer, err := m.call(g.credentials(pki.Operator, "op"), http.MethodGet, "/clumsy", nil)
		if err != nil || status != http.StatusInternalServerError || strings.Contains(answer, held) {
			t.Errorf("%d %q %v", status, answer, err)
		}
	}
	log := m.log.String()
	if !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "TestMistakeInCallIsAnswered") ||
		!strings.Contains(log, "GET /clumsy") || strings.Contains(log, held) {
		t.Errorf("the log: %s", log)
	}
}
