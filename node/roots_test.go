package node_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"coffer/kms/rootkey"
)

// TestNobodyNamesANodesRootKey has a leader offer root keys that others hold, and the log name one: a node opens none
// of them, and asks nobody's service. It opens one that follows its own.
func TestNobodyNamesANodesRootKey(t *testing.T) {
	var asked atomic.Int64
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_, _ = io.WriteString(w, `{"KeyMetadata": {"KeyId": "mine", "Arn": "arn:aws:kms:r:111111111111:key/mine"}}`)
	}))
	defer service.Close()
	credentials, mine := filepath.Join(t.TempDir(), "credentials"), filepath.Join(t.TempDir(), "root-key-2")
	noError(t, os.WriteFile(credentials, []byte("[default]\naws_access_key_id=a\naws_secret_access_key=b\n"), 0o600))
	noError(t, os.WriteFile(mine, rootkey.Generate(), 0o600))
	t.Setenv("MINE", string(bytes.TrimSpace(rootkey.Generate())))

	n := start(t)
	ctx := t.Context()
	elsewhere := "awskms:mine?region=r&endpoint=" + service.URL + "&credentials=" + credentials
	for _, spec := range []string{elsewhere, "file:" + mine, "env:MINE"} {
		if id, err := n.Offered(ctx, spec); err == nil {
			t.Errorf("it opened %s: %s", spec, id)
		}
	}
	next := n.RootKeyFile() + "-2"
	noError(t, os.WriteFile(next, rootkey.Generate(), 0o600))
	if _, err := n.Offered(ctx, "file:"+next); err != nil {
		t.Errorf("a root key that follows its own: %v", err)
	}
	key, err := rootkey.New(bytes.Repeat([]byte{7}, 32))
	noError(t, err)
	noError(t, n.RotateRoot(ctx, key, elsewhere))
	n.FollowRoot(ctx)
	if asked.Load() > 0 {
		t.Errorf("another's service was asked %d times", asked.Load())
	}
	if err := n.Sealed(); err == nil {
		t.Error("the node is not sealed though the region's keys are under another's key")
	}
}
