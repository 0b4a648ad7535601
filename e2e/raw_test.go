package e2e_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"coffer/internal/testcluster"
)

// raw sends a body as it is, signed by the SDK's signer, and answers status and body.
func raw(t *testing.T, c *testcluster.Cluster, n *testcluster.Node, operation string, body []byte) (int, string) {
	t.Helper()
	req := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), http.MethodPost, n.Endpoint+"/", bytes.NewReader(body)))
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "secretsmanager."+operation)
	sum := sha256.Sum256(body)
	noError(t, v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: c.Credentials.AccessKeyID, SecretAccessKey: c.Credentials.SecretAccessKey},
		req, hex.EncodeToString(sum[:]), "secretsmanager", testcluster.Region, time.Now()))
	resp := must[*http.Response](t)(http.DefaultClient.Do(req))
	defer resp.Body.Close()
	answer := must[[]byte](t)(io.ReadAll(resp.Body))
	return resp.StatusCode, string(answer)
}
