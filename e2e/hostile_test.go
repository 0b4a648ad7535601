package e2e_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"

	"coffer/internal/testcluster"
)

// TestHostileInput sends what no client should: it is refused with 400, changes nothing and tells nothing.
func TestHostileInput(t *testing.T) {
	c := startCluster(t, 1)
	n := c.Nodes[0]
	create(t, n.Client(), "here", "v")
	tok := uuid.NewString()
	body := func(value string) string {
		return fmt.Sprintf(`{"SecretId":"here","ClientRequestToken":%q,"SecretString":%s}`, tok, value)
	}
	for name, test := range map[string]struct{ body, code string }{
		"not JSON":      {`SecretId=here`, "SerializationException"},
		"cut off":       {`{"SecretId":"here"`, "SerializationException"},
		"trailing data": {body(`"w"`) + `{}`, "SerializationException"},
		"duplicate member": {
			`{"SecretId":"here","SecretId":"here","ClientRequestToken":"` + tok + `","SecretString":"w"}`,
			"SerializationException",
		},
		"number":            {body(`17`), "SerializationException"},
		"object":            {body(`{"a":"w"}`), "SerializationException"},
		"array":             {body(`["w"]`), "SerializationException"},
		"boolean":           {body(`true`), "SerializationException"},
		"invalid UTF-8":     {body("\"w\xff\""), "SerializationException"},
		"lone surrogate":    {body(`"w\ud800"`), "SerializationException"},
		"bad escape":        {body(`"\x41"`), "SerializationException"},
		"control character": {body("\"w\nx\""), "SerializationException"},
		"bad base64": {
			fmt.Sprintf(`{"SecretId":"here","ClientRequestToken":%q,"SecretBinary":"???"}`, tok), "SerializationException",
		},
		"deep nesting": {
			fmt.Sprintf(`{"SecretId":"here","x":%s%s}`, strings.Repeat("[", 100_000), strings.Repeat("]", 100_000)),
			"SerializationException",
		},
		"too large": {body(`"` + strings.Repeat("w", 600<<10) + `"`), "SerializationException"},
		"other case": {
			fmt.Sprintf(`{"secretid":"here","ClientRequestToken":%q,"SecretString":"w"}`, tok), "ValidationException",
		},
		"null": {
			fmt.Sprintf(`{"SecretId":null,"ClientRequestToken":%q,"SecretString":"w"}`, tok), "ValidationException",
		},
		"no token":           {`{"SecretId":"here","SecretString":"w"}`, "InvalidRequestException"},
		"a list, not object": {`[]`, "SerializationException"},
		"empty":              {``, "ValidationException"},
	} {
		status, answer := raw(t, c, n, "PutSecretValue", []byte(test.body))
		if status != http.StatusBadRequest || !strings.Contains(answer, `"__type":"`+test.code+`"`) {
			t.Errorf("%s: got %d %s, want 400 %s", name, status, answer, test.code)
		}
	}
	if got := get(t, n.Client(), secretsmanager.GetSecretValueInput{
		SecretId: aws.String("here"),
	}); *got.SecretString != "v" {
		t.Error("refused requests changed the value")
	}
	if status, answer := raw(t, c, n, "PutSecretValue",
		[]byte(
			fmt.Sprintf(`{"Unknown":{"a":[1]},"SecretId":"here","ClientRequestToken":%q,"SecretString":"w\u0000\ud83d\ude00"}`,
				tok))); status != http.StatusOK {
		t.Errorf("an unknown member was not ignored: %d %s", status, answer)
	}
	if got := get(t, n.Client(), secretsmanager.GetSecretValueInput{
		SecretId: aws.String("here"),
	}); *got.SecretString != "w\x00\U0001F600" {
		t.Errorf("got %q", *got.SecretString)
	}
}

// TestUnauthenticated shows what is answered to requests that are not signed, or not for here.
func TestUnauthenticated(t *testing.T) {
	c := startCluster(t, 1)
	n := c.Nodes[0]
	post := func(header http.Header) string {
		req := must(http.NewRequestWithContext(t.Context(), http.MethodPost, n.Endpoint+"/",
			strings.NewReader(`{"SecretId":"x"}`)))(t)
		req.Header = header
		resp := must(http.DefaultClient.Do(req))(t)
		defer resp.Body.Close()
		b := must(io.ReadAll(resp.Body))(t)
		if resp.StatusCode != http.StatusBadRequest || resp.Header.Get("X-Amzn-Requestid") == "" ||
			resp.Header.Get("Content-Type") != "application/x-amz-json-1.1" {
			t.Errorf("status %d, header %v", resp.StatusCode, resp.Header)
		}
		return string(b)
	}
	target := http.Header{"X-Amz-Target": {"secretsmanager.GetSecretValue"}}
	for want, header := range map[string]http.Header{
		"MissingAuthenticationTokenException": target,
		"UnknownOperationException":           {"X-Amz-Target": {"secretsmanager.Nothing"}},
		"IncompleteSignatureException": {
			"X-Amz-Target": target["X-Amz-Target"], "Authorization": {"Basic dXNlcjpwYXNz"},
		},
	} {
		if got := post(header); !strings.Contains(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	other := n.Client(func(o *secretsmanager.Options) { o.Region = "eu-west-1" })
	_, err := other.ListSecrets(t.Context(), &secretsmanager.ListSecretsInput{})
	wantCode(t, err, "InvalidSignatureException", "Credential should be scoped to a valid region")
	stranger := *c
	stranger.Credentials.AccessKeyID = "AKIAAAAAAAAAAAAAAAAA"
	status, answer := raw(t, &stranger, n, "ListSecrets", []byte(`{}`))
	if status != http.StatusBadRequest || !strings.Contains(answer, "UnrecognizedClientException") {
		t.Errorf("%d %s", status, answer)
	}
	stranger.Credentials = c.Credentials
	stranger.Credentials.SecretAccessKey += "x"
	status, answer = raw(t, &stranger, n, "ListSecrets", []byte(`{}`))
	if status != http.StatusBadRequest || !strings.Contains(answer, "InvalidSignatureException") {
		t.Errorf("%d %s", status, answer)
	}
}

// TestPresigned sends requests that the SDK's signer presigned, with the operation in the query or in a header.
func TestPresigned(t *testing.T) {
	c := startCluster(t, 1)
	n := c.Nodes[0]
	create(t, n.Client(), "presigned", "v")
	const body = `{"SecretId":"presigned"}`
	sum := sha256.Sum256([]byte(body))
	for _, hoist := range []bool{true, false} {
		req := must(http.NewRequestWithContext(t.Context(), http.MethodPost, n.Endpoint+"/?X-Amz-Expires=60",
			strings.NewReader(body)))(t)
		req.Header.Set("X-Amz-Target", "secretsmanager.GetSecretValue")
		signed, header, err := v4.NewSigner().PresignHTTP(t.Context(),
			aws.Credentials{AccessKeyID: c.Credentials.AccessKeyID, SecretAccessKey: c.Credentials.SecretAccessKey},
			req, hex.EncodeToString(sum[:]), "secretsmanager", testcluster.Region, time.Now(), func(o *v4.SignerOptions) {
				o.DisableHeaderHoisting = !hoist
			})
		noError(t, err)
		for _, altered := range []bool{false, true} {
			to := signed
			if altered {
				to = strings.Replace(to, "X-Amz-Expires=60", "X-Amz-Expires=61", 1)
			}
			req := must(http.NewRequestWithContext(t.Context(), http.MethodPost, to, strings.NewReader(body)))(t)
			req.Header = header.Clone()
			resp := must(http.DefaultClient.Do(req))(t)
			answer := must(io.ReadAll(resp.Body))(t)
			_ = resp.Body.Close()
			if (resp.StatusCode == http.StatusOK) == altered {
				t.Errorf("hoisted %v, altered %v: %d %s", hoist, altered, resp.StatusCode, answer)
			}
		}
	}
}

// TestSlowClientsAreCutOff shows that clients that never finish their requests do not hold the server.
func TestSlowClientsAreCutOff(t *testing.T) {
	c := startCluster(t, 1)
	n := c.Nodes[0]
	addr := strings.TrimPrefix(n.Endpoint, "http://")
	var conns []net.Conn
	for range 200 {
		conn := must(net.Dial("tcp", addr))(t)
		defer conn.Close()
		_ = must(conn.Write([]byte("POST / HTTP/1.1\r\nHost: x\r\nX-Slow: ")))(t)
		conns = append(conns, conn)
	}
	create(t, n.Client(), "meanwhile", "v")
	for _, conn := range conns {
		noError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
		if _, err := bufio.NewReader(conn).ReadByte(); err != nil && err != io.EOF &&
			!strings.Contains(err.Error(), "reset") {
			t.Fatalf("a client that never ends its header is still connected: %v", err)
		}
	}
}
