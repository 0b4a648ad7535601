package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"coffer/fsm"
	"coffer/httpapi"
	"coffer/internal/testregion"
)

// slow is a cluster that takes its time.
type slow struct {
	*testregion.Region
	write, read time.Duration
}

func (s slow) Propose(ctx context.Context, command []byte) (fsm.Outcome, error) {
	time.Sleep(s.write)
	return s.Region.Propose(ctx, command)
}

func (s slow) ReadBarrier(ctx context.Context) error {
	select {
	case <-time.After(s.read):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pipes is a listener whose connections exist in memory only, so that a test's clock can stand in for time.
type pipes struct {
	conns chan net.Conn
	ended chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), ended: make(chan struct{})} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-p.ended:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.ended) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// attempts notes how long each of an SDK's attempts took.
type attempts struct {
	http.RoundTripper
	mu      sync.Mutex
	longest time.Duration
	refused int
}

func (a *attempts) RoundTrip(r *http.Request) (*http.Response, error) {
	began := time.Now()
	resp, err := a.RoundTripper.RoundTrip(r)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.longest = max(a.longest, time.Since(began))
	if err == nil && resp.StatusCode == http.StatusServiceUnavailable {
		a.refused++
	}
	return resp, err
}

// inSaturated runs a test against a node of which four writes and four reads at a time are more than it can do quickly.
func inSaturated(t *testing.T, cluster slow, limits httpapi.Limits, test func(*testing.T, *door, *attempts)) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		d := newDoor(t, l, func(c *httpapi.Config, r *testregion.Region) {
			c.Limits = limits
			cluster.Region = r
			r.Base.Cluster, r.Base.Now = cluster, time.Now
		})
		transport := &http.Transport{DialContext: l.dial}
		test(t, d, &attempts{RoundTripper: transport})
		transport.CloseIdleConnections()
	})
}

func fewAtOnce() httpapi.Limits {
	l := httpapi.DefaultLimits
	l.Reads, l.Writes, l.Wait, l.Work = 4, 4, 200*time.Millisecond, time.Second
	return l
}

// TestSaturatedNodeAnswersInTime has 64 clients write at once, of which a node takes four in 100 ms: no attempt
// waits longer than its bound, and all succeed by trying again as SDKs do.
func TestSaturatedNodeAnswersInTime(t *testing.T) {
	limits := fewAtOnce()
	inSaturated(t, slow{write: 100 * time.Millisecond}, limits, func(t *testing.T, d *door, a *attempts) {
		client := d.sdk(a, 100)
		var all sync.WaitGroup
		for i := range 64 {
			all.Go(func() {
				if _, err := client.CreateSecret(context.Background(), &secretsmanager.CreateSecretInput{
					Name: aws.String(fmt.Sprint("s", i)), SecretString: aws.String("v"),
				}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if a.refused == 0 {
			t.Error("nothing was refused: this test shows nothing")
		}
		if bound := limits.Wait + 100*time.Millisecond; a.longest > bound {
			t.Errorf("an attempt took %v, wanted at most %v", a.longest, bound)
		}
		if got := d.metric(t, "coffer_refused_total"); int(got) != a.refused {
			t.Errorf("%v are counted as refused, %d were", got, a.refused)
		}
	})
}

// TestReadsGoOnWhileWritesHang has more writes wait for a majority that does not come than may be carried out at a
// time.
func TestReadsGoOnWhileWritesHang(t *testing.T) {
	inSaturated(t, slow{write: time.Hour}, fewAtOnce(), func(t *testing.T, d *door, a *attempts) {
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 2*time.Hour)
				defer cancel()
				_, _ = d.sdk(a, 1).CreateSecret(ctx, &secretsmanager.CreateSecretInput{
					Name: aws.String(fmt.Sprint("s", i)), SecretString: aws.String("v"),
				})
			})
		}
		synctest.Wait()
		began := time.Now()
		if _, err := d.sdk(a, 1).ListSecrets(t.Context(), &secretsmanager.ListSecretsInput{}); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("a read waited for %v", took)
		}
		all.Wait()
	})
}

// TestRequestEndsInTime has a read wait for a leader for longer than a request may take.
func TestRequestEndsInTime(t *testing.T) {
	limits := fewAtOnce()
	inSaturated(t, slow{read: time.Hour}, limits, func(t *testing.T, d *door, a *attempts) {
		client := d.sdk(a, 1)
		_, err := client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("none")})
		if err == nil || errors.Is(err, context.DeadlineExceeded) || a.longest > limits.Work {
			t.Errorf("%v after %v", err, a.longest)
		}
	})
}
