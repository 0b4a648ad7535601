package httpapi_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/prometheus/client_golang/prometheus"

	"coffer/fsm"
	"coffer/httpapi"
	"coffer/iam"
	kmsservice "coffer/kms/service"
	sm "coffer/secretsmanager"
	"coffer/serving"
)

var credentials = iam.Credentials{
	AccountID: "123456789012", AccessKeyID: "AKIAEXAMPLEEXAMPLE00", SecretAccessKey: strings.Repeat("s", 40),
}

// FuzzRequest sends any operation with any body to the door, signed: it must answer 200 or 400 (503 before the
// cluster is formed, which it never is here) with a JSON body, and never panic.
func FuzzRequest(f *testing.F) {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	store, err := fsm.Open(f.TempDir(), fsm.Options{Log: quiet})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = store.Close() })
	base := serving.New("us-east-1", store, alone{}, serving.NewKeyring(nil), time.Now, rand.Reader)
	server := httpapi.New(httpapi.Config{
		Region: "us-east-1", Access: credentials, Registry: prometheus.NewRegistry(), Log: quiet, Now: time.Now,
		Ready:   func() string { return "" },
		Secrets: sm.New(base), Keys: kmsservice.New(base),
	})
	operations := []string{"CreateSecret", "GetSecretValue", "BatchGetSecretValue", "PutSecretValue",
		"UpdateSecret", "ListSecrets", "UpdateSecretVersionStage", "DeleteSecret", "TagResource", "UntagResource",
		"GetRandomPassword", "PutResourcePolicy", "ListSecretVersionIds", "Nothing"}
	keys := []string{"CreateKey", "DescribeKey", "ListKeys", "ScheduleKeyDeletion", "CreateAlias", "ListAliases",
		"TagResource", "PutKeyPolicy", "Encrypt", "Decrypt", "ReEncrypt", "GenerateDataKey", "GenerateRandom",
		"EnableKeyRotation", "ListKeyRotations", "GetParametersForImport", "ImportKeyMaterial", "GenerateMac", "VerifyMac",
		"Nothing"}
	for i, body := range []string{
		`{"Name":"n","SecretString":"s","ClientRequestToken":"00000000-0000-0000-0000-000000000000",` +
			`"Tags":[{"Key":"k","Value":"v"}]}`,
		`{"SecretId":"n","VersionId":null}`, `{"SecretIdList":["a"],"Filters":[{"Key":"name","Values":["!x"]}]}`,
		`{"SecretId":"a","SecretBinary":"AAE="}`, `{"MaxResults":1.5}`, `{"PasswordLength":1e400}`,
		`{"SecretId":"\ud800"}`, `[[[[`, `{"a":1,"a":2}`, "{\"SecretId\":\"\xff\"}",
		`{"PasswordLength":5,"ExcludeCharacters":"é"}`,
		`{"KeyId":"alias/x","Plaintext":"AAAA","EncryptionContext":{"a":"b"}}`,
		`{"CiphertextBlob":"AQ==","EncryptionContext":{"a":1}}`, `{"ValidTo":1e30,"KeyId":"k"}`,
	} {
		f.Add(uint8(i), []byte(body))
		f.Add(uint8(128+i), []byte(body))
	}
	f.Fuzz(func(t *testing.T, operation uint8, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1/", bytes.NewReader(body))
		target, service := "secretsmanager."+operations[int(operation)%len(operations)], "secretsmanager"
		if operation >= 128 {
			target, service = "TrentService."+keys[int(operation)%len(keys)], "kms"
		}
		r.Header.Set("X-Amz-Target", target)
		sum := sha256.Sum256(body)
		key, _ := signer(t.Context())
		err := v4.NewSigner().SignHTTP(t.Context(), key, r, hex.EncodeToString(sum[:]), service, "us-east-1", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		server.Handler().ServeHTTP(w, r)
		if w.Code != http.StatusOK && w.Code != http.StatusBadRequest && w.Code != http.StatusServiceUnavailable {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if !json.Valid(w.Body.Bytes()) || !utf8.Valid(w.Body.Bytes()) {
			t.Errorf("the answer is not JSON: %q", w.Body)
		}
		if w.Code == http.StatusServiceUnavailable && (!json.Valid(body) && len(body) > 0 || !utf8.Valid(body)) {
			t.Errorf("a broken body went past the door: %q", body)
		}
	})
}

// alone is a cluster that takes nothing.
type alone struct{}

func (alone) Propose(context.Context, []byte) (fsm.Outcome, error) {
	return fsm.Outcome{}, errors.New("no cluster")
}
func (alone) ReadBarrier(context.Context) error { return nil }
func (alone) StaleFor() time.Duration           { return 0 }
func (alone) KnowsRegion(string) bool           { return false }
