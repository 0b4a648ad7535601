package node_test

import (
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

// TestMetricsAreDocumented scrapes a running node and compares its metrics with the table in docs/operations.md.
// Those of replication, which a region alone has none of, are compared in their room.
func TestMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/operations.md")
	noError(t, err)
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(coffer_[a-z_]+)").FindAllStringSubmatch(string(text), -1) {
		if !strings.HasPrefix(row[1], "coffer_replication_") {
			documented[row[1]] = true
		}
	}
	n := start(t)
	_, err = n.Secrets.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
		Name: aws.String("a"), SecretString: aws.String("v"),
	})
	noError(t, err)

	resp, err := http.Get(n.Endpoint() + "/metrics")
	noError(t, err)
	defer resp.Body.Close()
	scraped, err := io.ReadAll(resp.Body)
	noError(t, err)
	found := map[string]bool{}
	for _, family := range regexp.MustCompile("(?m)^# TYPE (coffer_[a-z_]+) ").FindAllStringSubmatch(string(scraped), -1) {
		found[family[1]] = true
	}
	if got, want := slices.Sorted(maps.Keys(found)), slices.Sorted(maps.Keys(documented)); !slices.Equal(got, want) {
		t.Errorf("the node has\n%s\ndocumented are\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, sample := range []string{
		`coffer_raft_log_write_seconds_count [1-9]`, `coffer_raft_commit_seconds_count [1-9]`, `coffer_ready 1`,
		`coffer_disk_free_bytes [1-9]`, `coffer_certificate_expiry_timestamp_seconds\{certificate="peer"\} [1-9]`,
		`coffer_build_info\{format="[1-9]`, `coffer_requests_total\{code="",operation="CreateSecret"\} 1`,
	} {
		if !regexp.MustCompile("(?m)^" + sample).Match(scraped) {
			t.Errorf("the metrics lack %s", sample)
		}
	}
}
