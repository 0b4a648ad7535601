package replication_test

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// TestMetricsAreDocumented compares the metrics of replication with the table in docs/operations.md.
func TestMetricsAreDocumented(t *testing.T) {
	inWorld(t, func(w *world) {
		text, err := os.ReadFile("../docs/operations.md")
		w.must(err)
		var documented []string
		rows := regexp.MustCompile("(?m)^\\| `(coffer_replication_[a-z_]+)")
		for _, row := range rows.FindAllStringSubmatch(string(text), -1) {
			documented = append(documented, row[1])
		}
		there := w.regions[us].agent.Metrics()
		slices.Sort(documented)
		slices.Sort(there)
		if !slices.Equal(documented, there) {
			t.Errorf("documented are\n%q, there are\n%q", documented, there)
		}
	})
}
