package iam_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"coffer/iam"
	"coffer/refusal"
)

var (
	credentials = iam.Credentials{
		AccountID: "123456789012", AccessKeyID: "AKIAEXAMPLEEXAMPLE00", SecretAccessKey: strings.Repeat("s3cr3t/+", 5),
	}
	signer = aws.Credentials{AccessKeyID: credentials.AccessKeyID, SecretAccessKey: credentials.SecretAccessKey}
	now    = time.Date(2026, 2, 5, 14, 17, 50, 0, time.UTC)
)

func newVerifier() *iam.Verifier {
	return &iam.Verifier{Region: "us-east-1", Service: "secretsmanager", Keys: credentials}
}

// unsigned is a request as the SDKs make them.
func unsigned(body string) *http.Request {
	r, err := http.NewRequest(http.MethodPost, "http://127.0.0.1:7400/", strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "secretsmanager.GetSecretValue")
	r.Header.Set("X-Amz-Meta", "  two   words ")
	return r
}

func hash(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

// sign signs with the SDK's own signer, in header or presigned form.
func sign(t testing.TB, body string, presigned bool) *http.Request {
	r := unsigned(body)
	if !presigned {
		err := v4.NewSigner().SignHTTP(context.Background(), signer, r, hash(body), "secretsmanager", "us-east-1", now)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r.URL.RawQuery = url.Values{"X-Amz-Expires": {"900"}, "z y": {"a+b c&="}, "a": {"2", "1"}}.Encode()
	signed, header, err := v4.NewSigner().PresignHTTP(context.Background(), signer, r, hash(body),
		"secretsmanager", "us-east-1", now)
	if err != nil {
		t.Fatal(err)
	}
	r.URL, err = url.Parse(signed)
	if err != nil {
		t.Fatal(err)
	}
	for name := range r.Header {
		if len(header[name]) == 0 {
			delete(r.Header, name) // the SDK moved it into the query
		}
	}
	return r
}

// message is a request as a server has it, with its body.
type message struct {
	iam.Request
	body []byte
}

// verify takes the two steps in which a server authenticates a request.
func (m *message) verify(v *iam.Verifier, at time.Time) (iam.Principal, error) {
	claim, err := v.Examine(&m.Request, at)
	if err != nil {
		return iam.Principal{}, err
	}
	return claim.Prove(m.body)
}

// received is r as a server's net/http hands it on, after a trip over the wire.
func received(t testing.TB, r *http.Request, body string) *message {
	var wire bytes.Buffer
	r.Body = http.NoBody
	r = r.Clone(context.Background())
	r.Body = http.NoBody
	if body != "" {
		r.Body = readCloser{strings.NewReader(body)}
	}
	if err := r.Write(&wire); err != nil {
		t.Fatal(err)
	}
	got := httptest.NewRequest(r.Method, r.URL.String(), nil)
	got.Header, got.Host, got.ContentLength = r.Header.Clone(), r.URL.Host, r.ContentLength
	return &message{body: []byte(body), Request: iam.Request{
		Method: got.Method, Host: got.Host, RawQuery: got.URL.RawQuery, Header: got.Header, ContentLength: got.ContentLength,
	}}
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

func TestSDKSignaturesAreAccepted(t *testing.T) {
	for _, presigned := range []bool{false, true} {
		for _, body := range []string{"", `{"SecretId":"x"}`, strings.Repeat("x", 100_000)} {
			r := received(t, sign(t, body, presigned), body)
			for range 2 { // the second time with a derived key from the cache
				p, err := r.verify(newVerifier(), now.Add(time.Minute))
				if err != nil || p.Account != credentials.AccountID || p.ARN != "arn:aws:iam::123456789012:root" {
					t.Errorf("presigned %v, %d bytes: %+v, %v", presigned, len(body), p, err)
				}
			}
		}
	}
}

// TestMutationsAreRefused changes signed requests in thousands of ways, none of which may be accepted.
func TestMutationsAreRefused(t *testing.T) {
	const body = `{"SecretId":"x"}`
	random := rand.New(rand.NewPCG(1, 2))
	flip := func(s string) string {
		b := []byte(s)
		i := random.IntN(len(b))
		for {
			c := byte(33 + random.IntN(94))
			if c != b[i] && !(strings.EqualFold(string(c), string(b[i]))) {
				b[i] = c
				return string(b)
			}
		}
	}
	accepted, tried := 0, 0
	for _, presigned := range []bool{false, true} {
		v := newVerifier()
		for range 6000 {
			r := received(t, sign(t, body, presigned), body)
			var what string
			switch random.IntN(8) {
			case 0:
				what = "body"
				r.body = []byte(flip(body))
			case 1:
				what = "method"
				r.Method = "PUT"
			case 2:
				what = "host"
				r.Host = flip(r.Host)
			case 3:
				what = "an unsigned x-amz header"
				r.Header.Set("X-Amz-Extra", "1")
			case 4:
				what = "a signed header"
				r.Header.Set("Content-Type", flip(r.Header.Get("Content-Type")))
			case 5:
				what = "a removed header"
				r.Header.Del("Content-Type")
			default:
				if presigned {
					what = "query"
					for before := r.RawQuery; sameQuery(before, r.RawQuery); {
						r.RawQuery = flip(before)
					}
				} else {
					what = "authorization"
					r.Header.Set("Authorization", flip(r.Header.Get("Authorization")))
				}
			}
			tried++
			if _, err := r.verify(v, now); err == nil {
				accepted++
				t.Errorf("accepted with another %s: %s %v", what, r.RawQuery, r.Header)
			}
		}
	}
	t.Logf("%d mutations, %d accepted", tried, accepted)
}

// sameQuery reports whether two query strings mean the same: an equal signature is right for both.
func sameQuery(a, b string) bool {
	x, errA := url.ParseQuery(a)
	y, errB := url.ParseQuery(b)
	return errA == nil && errB == nil && x.Encode() == y.Encode()
}

func TestClockWindow(t *testing.T) {
	const body = "{}"
	for _, test := range []struct {
		presigned bool
		later     time.Duration
		want      string
	}{
		{false, 5 * time.Minute, ""},
		{false, -5 * time.Minute, ""},
		{false, 5*time.Minute + time.Second, "Signature expired: 20260205T141750Z is now earlier than " +
			"20260205T141751Z (20260205T142251Z - 5 min.)"},
		{false, -5*time.Minute - time.Second, "Signature not yet current: 20260205T141750Z is still later than " +
			"20260205T141749Z (20260205T141249Z + 5 min.)"},
		{true, 15 * time.Minute, ""},
		{true, 15*time.Minute + time.Second, "Signature expired"},
		{true, -6 * time.Minute, "Signature not yet current"},
	} {
		_, err := received(t, sign(t, body, test.presigned), body).verify(newVerifier(), now.Add(test.later))
		if got := fmt.Sprint(err); (test.want == "") != (err == nil) || !strings.Contains(got, test.want) && test.want != "" {
			t.Errorf("presigned %v, %v later: %v", test.presigned, test.later, err)
		}
	}
}

// TestWhatNeedsNoBodyIsCheckedWithoutIt has everything wrong but the body: none of it may have to wait for the body.
func TestWhatNeedsNoBodyIsCheckedWithoutIt(t *testing.T) {
	const body = "{}"
	for what, test := range map[string]struct {
		change func(*message)
		at     time.Time
		kind   refusal.Kind
	}{
		"junk":          {func(m *message) { m.Header.Set("Authorization", "junk") }, now, iam.KindIncompleteSignature},
		"nothing":       {func(m *message) { m.Header.Del("Authorization") }, now, iam.KindMissingToken},
		"region":        {replace("us-east-1", "us-east-2"), now, iam.KindInvalidSignature},
		"service":       {replace("secretsmanager", "kms"), now, iam.KindInvalidSignature},
		"access key":    {replace("AKIAEXAMPLEEXAMPLE00", "AKIAEXAMPLEEXAMPLE01"), now, iam.KindUnrecognizedClient},
		"date":          {func(*message) {}, now.Add(time.Hour), iam.KindInvalidSignature},
		"missing":       {func(m *message) { m.Header.Del("Content-Type") }, now, iam.KindIncompleteSignature},
		"unsigned":      {func(m *message) { m.Header.Set("X-Amz-Extra", "1") }, now, iam.KindInvalidSignature},
		"session token": {replace("x-amz-date", "x-amz-date;x-amz-security-token"), now, iam.KindIncompleteSignature},
	} {
		m := received(t, sign(t, body, false), body)
		test.change(m)
		_, err := newVerifier().Examine(&m.Request, test.at)
		var refused *refusal.Error
		if !errors.As(err, &refused) || refused.Kind != test.kind {
			t.Errorf("%s: %v, wanted %s", what, err, test.kind)
		}
	}
	m := received(t, sign(t, body, false), body)
	claim, err := newVerifier().Examine(&m.Request, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := claim.Prove([]byte("{ }")); err == nil {
		t.Error("another body was accepted")
	}
}

// replace replaces a text in the Authorization header.
func replace(old, with string) func(*message) {
	return func(m *message) {
		m.Header.Set("Authorization", strings.Replace(m.Header.Get("Authorization"), old, with, 1))
	}
}

func FuzzAuthorization(f *testing.F) {
	const body = "{}"
	good := received(f, sign(f, body, false), body)
	f.Add(good.Header.Get("Authorization"), "")
	f.Add("", received(f, sign(f, body, true), body).RawQuery)
	f.Add("AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request, SignedHeaders=host, Signature=", "%zz=1")
	f.Fuzz(func(t *testing.T, authorization, query string) {
		r := *good
		r.Header = good.Header.Clone()
		r.Header.Set("Authorization", authorization)
		r.RawQuery = query
		sent := good.Header.Get("Authorization")
		_, err := r.verify(newVerifier(), now)
		if err == nil && (query != "" || !strings.Contains(authorization, sent[len(sent)-64:])) {
			t.Errorf("accepted %q with query %q", authorization, query)
		}
	})
}
