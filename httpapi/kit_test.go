package httpapi_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/prometheus/client_golang/prometheus"

	"coffer/httpapi"
	"coffer/internal/testregion"
	kmsservice "coffer/kms/service"
	sm "coffer/secretsmanager"
)

// door is a client port over a region of one.
type door struct {
	*httpapi.Server
	region   *testregion.Region
	registry *prometheus.Registry
	listener net.Listener
}

// newDoor opens a client port; change may change its configuration and the region before.
func newDoor(t testing.TB, l net.Listener, change func(*httpapi.Config, *testregion.Region)) *door {
	d := &door{region: testregion.New(t), registry: prometheus.NewRegistry(), listener: l}
	config := httpapi.Config{
		Region: "us-east-1", Access: credentials, Registry: d.registry, Log: slog.New(slog.DiscardHandler), Now: time.Now,
		Ready: func() string { return "" }, Warnings: func() []string { return nil },
		Secrets: sm.New(d.region.Base), Keys: kmsservice.New(d.region.Base),
	}
	if change != nil {
		change(&config, d.region)
	}
	d.Server = httpapi.New(config)
	served := make(chan error, 1)
	go func() { served <- d.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := d.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return d
}

func listenTCP(t testing.TB) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// dial connects from an address of this machine.
func (d *door) dial(t testing.TB, from string) net.Conn {
	t.Helper()
	conn, err := d.tryDial(t, from)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func (d *door) tryDial(t testing.TB, from string) (net.Conn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.Dial("tcp", d.listener.Addr().String())
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, conn.SetDeadline(time.Now().Add(time.Minute))
}

// metric is the sum of a metric over its labels.
func (d *door) metric(t testing.TB, name string) float64 {
	t.Helper()
	families, err := d.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// await waits until a metric is as wanted.
func (d *door) await(t testing.TB, name string, wanted func(float64) bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !wanted(d.metric(t, name)) {
		if time.Now().After(deadline) {
			t.Fatalf("%s is %v", name, d.metric(t, name))
		}
		time.Sleep(time.Millisecond)
	}
}

// sdk is AWS's client of the door, which tries again as AWS's clients do, but sooner.
func (d *door) sdk(transport http.RoundTripper, attempts int) *secretsmanager.Client {
	return secretsmanager.New(secretsmanager.Options{
		Region: "us-east-1", BaseEndpoint: aws.String("http://" + d.listener.Addr().String()),
		HTTPClient:  &http.Client{Transport: transport},
		Credentials: aws.CredentialsProviderFunc(signer),
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts, o.MaxBackoff, o.RateLimiter = attempts, 100*time.Millisecond, ratelimit.None
		}),
	})
}

func signer(context.Context) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: credentials.AccessKeyID, SecretAccessKey: credentials.SecretAccessKey}, nil
}
