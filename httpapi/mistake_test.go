package httpapi_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"coffer/fsm"
	"coffer/httpapi"
	"coffer/internal/testregion"
)

// clumsy panics, with what it was given, where a command is proposed.
type clumsy struct{ *testregion.Region }

func (clumsy) Propose(_ context.Context, command []byte) (fsm.Outcome, error) { panic(string(command)) }

// lines is what is logged.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestMistakeInRequestIsAnswered has an operation panic: the client gets its API's 500, the log says where, at Error
// and with the request's id, and holds nothing of what was panicked with; the connection, and all that the request
// held, are free.
func TestMistakeInRequestIsAnswered(t *testing.T) {
	const name = "name-of-a-secret"
	var log lines
	d := newDoor(t, listenTCP(t), func(c *httpapi.Config, r *testregion.Region) {
		c.Log = slog.New(slog.NewJSONHandler(&log, nil))
		r.Base.Cluster = clumsy{r}
		c.Limits = httpapi.DefaultLimits
		c.Limits.Writes = 4
	})
	limits := &http.Transport{MaxConnsPerHost: 1}
	for range 20 { // more than may be carried out at a time
		_, err := d.sdk(limits, 1).CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
			Name: aws.String(name), SecretString: aws.String("v"),
		})
		if err == nil || !strings.Contains(err.Error(), "InternalServiceError") || !strings.Contains(err.Error(), "500") {
			t.Fatal(err)
		}
	}
	keys := kms.New(kms.Options{
		Region: "us-east-1", BaseEndpoint: aws.String("http://" + d.listener.Addr().String()), RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(signer),
	})
	_, err := keys.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err == nil || !strings.Contains(err.Error(), "KMSInternalException") || !strings.Contains(err.Error(), "500") {
		t.Error(err)
	}
	d.await(t, "coffer_client_bytes", func(v float64) bool { return v == 0 })
	if _, err := d.sdk(limits, 1).ListSecrets(t.Context(), &secretsmanager.ListSecretsInput{}); err != nil {
		t.Error(err)
	}
	text := log.String()
	for _, wanted := range []string{
		`"level":"ERROR"`, `"request_id":"`, "httpapi_test.clumsy.Propose", "mistake_test.go:",
	} {
		if strings.Count(text, wanted) < 21 {
			t.Errorf("the log lacks %s", wanted)
		}
	}
	if strings.Contains(text, name) {
		t.Error("the log has what was panicked with")
	}
}
