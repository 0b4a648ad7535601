package testcluster

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

// Client is an SDK client of this node, with the SDK's default retries.
func (n *Node) Client(options ...func(*secretsmanager.Options)) *secretsmanager.Client {
	return n.cluster.client(n.Endpoint, http.DefaultTransport.(*http.Transport).Clone(), options...)
}

// Once makes a client try each request once.
func Once(o *secretsmanager.Options) { o.Retryer = aws.NopRetryer{} }

// StaleMark is a client's transport that notices X-Coffer-Stale on its answers. It is used by one goroutine at a time.
type StaleMark struct {
	Next  http.RoundTripper
	Stale bool // the last answer
}

// RoundTrip is part of http.RoundTripper.
func (s *StaleMark) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := s.Next.RoundTrip(r)
	s.Stale = err == nil && resp.Header.Get("X-Coffer-Stale") != ""
	return resp, err
}

// Balanced is an SDK client that sends each attempt to the next of the nodes that take connections, as behind a
// load balancer with health checks.
func (c *Cluster) Balanced(options ...func(*secretsmanager.Options)) *secretsmanager.Client {
	return c.client("http://coffer.test", &balancer{cluster: c, next: http.DefaultTransport.(*http.Transport).Clone()},
		options...)
}

func (c *Cluster) client(endpoint string, transport http.RoundTripper,
	options ...func(*secretsmanager.Options)) *secretsmanager.Client {
	return secretsmanager.New(secretsmanager.Options{
		Region:       c.Region,
		BaseEndpoint: &endpoint,
		Credentials:  credentials.NewStaticCredentialsProvider(c.Credentials.AccessKeyID, c.Credentials.SecretAccessKey, ""),
		HTTPClient:   &http.Client{Transport: transport, Timeout: 20 * time.Second},
	}, options...)
}

// KMS is an SDK client of this node's KMS.
func (n *Node) KMS() *kms.Client {
	return n.cluster.kms(n.Endpoint, http.DefaultTransport.(*http.Transport).Clone())
}

// BalancedKMS is Balanced for the KMS.
func (c *Cluster) BalancedKMS() *kms.Client {
	return c.kms("http://coffer.test", &balancer{cluster: c, next: http.DefaultTransport.(*http.Transport).Clone()})
}

func (c *Cluster) kms(endpoint string, transport http.RoundTripper) *kms.Client {
	return kms.New(kms.Options{
		Region:       c.Region,
		BaseEndpoint: &endpoint,
		Credentials:  credentials.NewStaticCredentialsProvider(c.Credentials.AccessKeyID, c.Credentials.SecretAccessKey, ""),
		HTTPClient:   &http.Client{Transport: transport, Timeout: 20 * time.Second},
	})
}

type balancer struct {
	cluster *Cluster
	next    *http.Transport
	turn    atomic.Uint32
}

// RoundTrip keeps the Host header that was signed and connects to one of the nodes.
func (b *balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	nodes := b.cluster.Nodes
	start := int(b.turn.Add(1))
	pick := nodes[start%len(nodes)]
	for i := range nodes {
		n := nodes[(start+i)%len(nodes)]
		ctx, cancel := context.WithTimeout(r.Context(), 200*time.Millisecond)
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", n.listen)
		cancel()
		if err == nil {
			_ = conn.Close()
			pick = n
			break
		}
	}
	to, err := url.Parse(pick.Endpoint)
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Host = r.URL.Host
	r.URL.Scheme, r.URL.Host = to.Scheme, to.Host
	return b.next.RoundTrip(r)
}
