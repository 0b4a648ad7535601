package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"coffer/httpapi"
	"coffer/internal/testregion"
)

// announced is the length of the bodies that these tests announce: the largest that is read.
const announced = 512 << 10

// begin sends a request's header, which announces a body that is not there yet.
func begin(t testing.TB, conn net.Conn, authorization http.Header) {
	t.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST / HTTP/1.1\r\nHost: coffer\r\nContent-Length: %d\r\n", announced)
	_ = authorization.Write(&b)
	b.WriteString("\r\n")
	if _, err := conn.Write(b.Bytes()); err != nil {
		t.Fatal(err)
	}
}

// plausible is the header of a request that is in order as far as can be told without its body.
func plausible(t testing.TB) http.Header {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, "http://coffer/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = announced
	r.Header.Set("X-Amz-Target", "secretsmanager.GetSecretValue")
	key, _ := signer(t.Context())
	wrong := hex.EncodeToString(make([]byte, 32))
	if err := v4.NewSigner().SignHTTP(t.Context(), key, r, wrong, "secretsmanager", "us-east-1", time.Now()); err != nil {
		t.Fatal(err)
	}
	return r.Header
}

// wantAnswer reads an answer and its code from conn.
func wantAnswer(t testing.TB, conn io.Reader, status int, code string) {
	t.Helper()
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != status || !strings.Contains(string(body), code) {
		t.Errorf("%d %s %v, wanted %d %s", answer.StatusCode, body, err, status, code)
	}
}

// TestNothingIsReadForWhoeverCannotSign has a thousand connections announce bodies behind a junk signature. Each
// must be answered before a byte of its body is sent, and closed.
func TestNothingIsReadForWhoeverCannotSign(t *testing.T) {
	d := newDoor(t, listenTCP(t), nil)
	junk := http.Header{"X-Amz-Target": {"secretsmanager.GetSecretValue"}, "Authorization": {"junk"}}
	for range 1000 {
		conn := d.dial(t, "127.0.0.1")
		begin(t, conn, junk)
		in := bufio.NewReader(conn)
		wantAnswer(t, in, http.StatusBadRequest, "IncompleteSignatureException")
		if _, err := in.ReadByte(); err != io.EOF {
			t.Fatalf("the connection is still open: %v", err)
		}
		_ = conn.Close()
	}
	d.await(t, "coffer_client_bytes", func(v float64) bool { return v == 0 })
}

// TestBodiesHoldWhatHasArrived has bodies announced by someone who knows an access key's id, but not the key.
func TestBodiesHoldWhatHasArrived(t *testing.T) {
	d := newDoor(t, listenTCP(t), nil)
	header := plausible(t)
	const connections = 200
	var open []net.Conn
	for range connections {
		conn := d.dial(t, "127.0.0.1")
		begin(t, conn, header)
		open = append(open, conn)
	}
	d.await(t, "coffer_client_bytes", func(v float64) bool { return v >= connections*4096 })
	if held := d.metric(t, "coffer_client_bytes"); held > connections*8192 {
		t.Errorf("%v bytes are held for bodies of which nothing has arrived", held)
	}
	for _, conn := range open {
		_ = conn.Close()
	}
	d.await(t, "coffer_client_bytes", func(v float64) bool { return v == 0 })
}

// TestBodiesAreBounded has one address send more than it may hold: the rest is refused as SDKs try again, and another
// address has its own share.
func TestBodiesAreBounded(t *testing.T) {
	limits := httpapi.DefaultLimits
	limits.Bytes, limits.BytesPerAddress = 8<<20, 4<<20
	d := newDoor(t, listenTCP(t), func(c *httpapi.Config, _ *testregion.Region) { c.Limits = limits })
	header := plausible(t)
	part := bytes.Repeat([]byte("x"), announced-1)
	for range 100 {
		conn := d.dial(t, "127.0.0.1")
		begin(t, conn, header)
		_, _ = conn.Write(part) // one that is refused may be reset meanwhile
	}
	d.await(t, "coffer_refused_total", func(v float64) bool { return v >= 90 })
	if held := d.metric(t, "coffer_client_bytes"); held > float64(limits.BytesPerAddress) {
		t.Errorf("one address holds %v bytes", held)
	}
	conn := d.dial(t, "127.0.0.1")
	begin(t, conn, header)
	_, _ = conn.Write(part)
	wantAnswer(t, conn, http.StatusServiceUnavailable, "ThrottlingException")

	other := d.dial(t, "127.0.0.2")
	begin(t, other, header)
	_, _ = other.Write(append(part, 'x'))
	wantAnswer(t, other, http.StatusBadRequest, "InvalidSignatureException")
}

// TestConnectionsAreBounded fills one address's share, and then all.
func TestConnectionsAreBounded(t *testing.T) {
	limits := httpapi.DefaultLimits
	limits.Connections, limits.ConnectionsPerAddress = 20, 15
	d := newDoor(t, listenTCP(t), func(c *httpapi.Config, _ *testregion.Region) { c.Limits = limits })
	for i, from := range []string{"127.0.0.1", "127.0.0.2"} {
		for range 15 {
			_, _ = d.tryDial(t, from) // those above the limit can be reset at once
		}
		d.await(t, "coffer_client_connections", func(v float64) bool { return v == []float64{15, 20}[i] })
	}
	d.await(t, "coffer_refused_total", func(v float64) bool { return v == 10 })
	conn, err := d.tryDial(t, "127.0.0.3")
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	if err == nil {
		t.Error("a connection above the limit was served")
	}
}

// TestSDKsGetThroughLimits has more callers than connections: what is refused is tried again until all is done.
func TestSDKsGetThroughLimits(t *testing.T) {
	limits := httpapi.DefaultLimits
	limits.Connections, limits.ConnectionsPerAddress = 8, 8
	d := newDoor(t, listenTCP(t), func(c *httpapi.Config, _ *testregion.Region) { c.Limits = limits })
	client := d.sdk(&http.Transport{DisableKeepAlives: true}, 500)
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			if _, err := client.CreateSecret(context.Background(), &secretsmanager.CreateSecretInput{
				Name: aws.String(fmt.Sprint("s", i)), SecretString: aws.String(strings.Repeat("v", 60_000)),
			}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if d.metric(t, "coffer_refused_total") == 0 {
		t.Error("nothing was refused: this test shows nothing")
	}
}
