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
	req := must(http.NewRequestWithContext(t.Context(), http.MethodPost, n.Endpoint+"/", bytes.NewReader(body)))(t)
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "secretsmanager."+operation)
	sum := sha256.Sum256(body)
	noError(t, v4.NewSigner().SignHTTP(t.Context(),
		aws.Credentials{AccessKeyID: c.Credentials.AccessKeyID, SecretAccessKey: c.Credentials.SecretAccessKey},
		req, hex.EncodeToString(sum[:]), "secretsmanager", testcluster.Region, time.Now()))
	resp := must(http.DefaultClient.Do(req))(t)
	defer resp.Body.Close()
	answer := must(io.ReadAll(resp.Body))(t)
	return resp.StatusCode, string(answer)
}
