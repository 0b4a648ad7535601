package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"coffer/internal/testcluster"
)

// pause lets the workload run under a fault for a while.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// TestFaults kills leaders, pauses followers and powers everything off under load, and checks the clients' history.
func TestFaults(t *testing.T) {
	c := startCluster(t, 3)
	w := startWorkload(t, c)
	w.progress()
	for range 2 {
		leader := must(c.Leader(ctx(t, time.Minute)))(t)
		t.Logf("kill the leader %s", leader.ID)
		leader.Kill()
		w.progress()
		noError(t, leader.Start())
		noError(t, leader.AwaitReady(ctx(t, time.Minute)))
		w.progress()
	}
	leader := must(c.Leader(ctx(t, time.Minute)))(t)
	for _, n := range c.Nodes {
		t.Logf("pause %s, leader is %s", n.ID, leader.ID)
		n.Signal(syscall.SIGSTOP)
		w.progress()
		n.Signal(syscall.SIGCONT)
		w.progress()
	}
	t.Log("kill all at once")
	for _, n := range c.Nodes {
		n.Signal(syscall.SIGKILL)
	}
	for _, n := range c.Nodes {
		n.Wait()
		noError(t, n.Start())
	}
	noError(t, c.AwaitReady(ctx(t, time.Minute)))
	w.progress()
	w.finish()
	verify(t, c)
}

// verify compares the nodes' states.
func verify(t *testing.T, c *testcluster.Cluster) {
	t.Helper()
	noError(t, testcluster.Eventually(ctx(t, 30*time.Second), "equal digests", func() error {
		out, err := c.Nodes[0].Operate(t.Context(), "cluster", "verify")
		if err != nil {
			err = errors.New(out)
		}
		return err
	}))
}

// TestRollingRestart restarts every node in turn under SDK clients with default retries, which see no error.
func TestRollingRestart(t *testing.T) {
	c := startCluster(t, 3)
	create(t, c.Balanced(), "rolling", "0")
	loop, stop := context.WithCancel(t.Context())
	const clients = 4
	results := make(chan error, clients)
	for i := range clients {
		client := c.Balanced()
		go func() {
			for n := 0; ; n++ {
				if loop.Err() != nil {
					results <- nil
					return
				}
				var err error
				if i%2 == 0 {
					_, err = client.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
						SecretId: aws.String("rolling"), SecretString: aws.String(fmt.Sprint(n)),
					})
				} else {
					_, err = client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("rolling")})
				}
				if err != nil {
					results <- fmt.Errorf("client %d, request %d: %w", i, n, err)
					return
				}
			}
		}()
	}
	for _, n := range c.Nodes {
		n.Stop()
		if code := n.Wait(); code != 0 {
			t.Errorf("%s ended with exit code %d", n.ID, code)
		}
		noError(t, n.Start())
		noError(t, n.AwaitReady(ctx(t, time.Minute)))
	}
	stop()
	for range clients {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

// longest is how long do takes at most, of n times: what this machine, however busy it is, adds to anything.
func longest(n int, do func()) (most time.Duration) {
	for range n {
		start := time.Now()
		do()
		most = max(most, time.Since(start))
	}
	return most
}

// TestLostMajority shows a region without a majority: reads go on, marked; strong reads and writes are
// refused with 503 within a bounded time.
func TestLostMajority(t *testing.T) {
	c := startCluster(t, 3)
	create(t, c.Balanced(), "alone", "v")
	left := c.Nodes[0]
	get(t, left.Client(), secretsmanager.GetSecretValueInput{SecretId: aws.String("alone")})
	c.Nodes[1].Kill()
	c.Nodes[2].Kill()
	var mark testcluster.StaleMark
	client := left.Client(testcluster.Once, func(o *secretsmanager.Options) {
		mark.Next = o.HTTPClient.(*http.Client).Transport
		o.HTTPClient = &http.Client{Transport: &mark}
	})
	noError(t, testcluster.Eventually(ctx(t, 30*time.Second), "a read marked as stale", func() error {
		got, err := client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("alone")})
		if err != nil {
			t.Fatalf("reads must go on: %v", err)
		}
		if *got.SecretString != "v" {
			t.Fatal("another value")
		}
		if !mark.Stale {
			return errors.New("not marked")
		}
		return nil
	}))
	strong := left.Client(testcluster.Once, withHeader("X-Coffer-Consistency", "strong"))
	_, err := strong.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("alone")})
	wantCode(t, err, "ServiceUnavailableException", "No leader")
	local := left.Client(testcluster.Once, withHeader("X-Coffer-Consistency", "local"))
	answer := longest(20, func() {
		get(t, local, secretsmanager.GetSecretValueInput{SecretId: aws.String("alone")})
	})
	start := time.Now()
	_, err = left.Client(testcluster.Once).PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
		SecretId: aws.String("alone"), SecretString: aws.String("w"),
	})
	wantCode(t, err, "ServiceUnavailableException", "no majority")
	if took, bound := time.Since(start), 5*time.Second+20*answer; took > bound {
		t.Errorf("the refusal took %v, wanted at most %v where a read takes %v", took, bound, answer)
	}
	if status, body, _ := left.Get("/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz answers %d %s", status, body)
	}
	archive := filepath.Join(t.TempDir(), "archive")
	if out, err := left.Operate(t.Context(), "snapshot", "save", archive); err == nil {
		t.Errorf("a state that no leader confirmed was saved as if it were the latest: %s", out)
	}
	if out, err := left.Operate(t.Context(), "snapshot", "save", archive, "--stale"); err != nil ||
		!strings.Contains(out, "no leader confirmed it") {
		t.Errorf("what is left was not saved, or not marked: %v %s", err, out)
	}
	noError(t, c.Nodes[1].Start())
	noError(t, left.AwaitReady(ctx(t, time.Minute)))
	put(t, left.Client(), secretsmanager.PutSecretValueInput{SecretId: aws.String("alone"), SecretString: aws.String("x")})
	if out, err := left.Operate(t.Context(), "snapshot", "restore", archive); err == nil ||
		!strings.Contains(out, "bring them back") {
		t.Errorf("restored where the leader's loss would cost the majority: %v %s", err, out)
	}
	noError(t, c.Nodes[2].Start())
	noError(t, c.AwaitReady(ctx(t, time.Minute)))
	if out, err := left.Operate(t.Context(), "snapshot", "restore", archive); err != nil {
		t.Errorf("what was saved can't be restored: %v %s", err, out)
	}
	got := get(t, left.Client(), secretsmanager.GetSecretValueInput{SecretId: aws.String("alone")})
	if *got.SecretString != "v" {
		t.Errorf("restored the value %q", *got.SecretString)
	}
}

type headerTransport struct {
	next        http.RoundTripper
	name, value string
}

func (h headerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(h.name, h.value)
	return h.next.RoundTrip(r)
}

// withHeader adds a header that the signature does not cover.
func withHeader(name, value string) func(*secretsmanager.Options) {
	return func(o *secretsmanager.Options) {
		o.HTTPClient = &http.Client{Transport: headerTransport{http.DefaultTransport, name, value}}
	}
}

// TestNodeReplaced removes a dead node for good and takes in a new one, which becomes a voter.
func TestNodeReplaced(t *testing.T) {
	c := startCluster(t, 3)
	w := startWorkload(t, c)
	w.progress()
	dead := c.Nodes[2]
	dead.Kill()
	fresh := must(c.Add())(t)
	noError(t, fresh.Start())
	noError(t, fresh.AwaitReady(ctx(t, time.Minute)))
	out, err := c.Nodes[0].Operate(t.Context(), "cluster", "remove", dead.ID)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	awaitMembers(t, c.Nodes[0], map[string]bool{"n1": true, "n2": true, "n4": true})
	c.Nodes[0].Kill() // the others must be a majority now
	w.progress()
	w.finish()
}

// TestWipedNodeIsRebuilt lets a node lose its data: started again under its name, it takes everything anew.
func TestWipedNodeIsRebuilt(t *testing.T) {
	c := startCluster(t, 3)
	w := startWorkload(t, c)
	w.progress()
	n := c.Nodes[1]
	n.Kill()
	noError(t, n.Wipe())
	noError(t, n.Start())
	noError(t, n.AwaitReady(ctx(t, time.Minute)))
	w.progress()
	w.finish()
	awaitMembers(t, n, map[string]bool{"n1": true, "n2": true, "n3": true})
	verify(t, c)
}
