package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/google/uuid"

	"coffer/internal/history"
	"coffer/internal/testcluster"
)

// workload is concurrent clients at all nodes of a cluster, whose history is recorded.
type workload struct {
	t        *testing.T
	cluster  *testcluster.Cluster
	recorder *history.Recorder
	stop     context.CancelFunc
	clients  sync.WaitGroup
	ok       atomic.Int64                        // operations that succeeded
	stale    map[*testcluster.Node]*atomic.Int64 // reads answered without a leader, by the node
	wrong    atomic.Pointer[string]
}

const (
	workloadSecrets = 6
	clientsPerNode  = 3
	clientTimeout   = 12 * time.Second
)

func secretName(i int) string { return fmt.Sprintf("history/%d", i) }

// startWorkload makes the secrets, without values, and starts the clients.
func startWorkload(t *testing.T, c *testcluster.Cluster) *workload {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	w := &workload{t: t, cluster: c, recorder: history.NewRecorder(), stop: stop}
	w.stale = map[*testcluster.Node]*atomic.Int64{}
	for _, n := range c.Nodes {
		w.stale[n] = &atomic.Int64{}
	}
	t.Cleanup(stop)
	for i := range workloadSecrets {
		_, err := c.Balanced().CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: aws.String(secretName(i))})
		noError(t, err)
	}
	for n, node := range c.Nodes {
		for i := range clientsPerNode {
			w.clients.Add(1)
			go w.client(ctx, node, rand.New(rand.NewPCG(uint64(n), uint64(i))))
		}
	}
	return w
}

func (w *workload) client(ctx context.Context, node *testcluster.Node, random *rand.Rand) {
	defer w.clients.Done()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	mark := &testcluster.StaleMark{Next: transport}
	c := node.Client(testcluster.Once, func(o *secretsmanager.Options) {
		o.HTTPClient = &http.Client{Transport: mark, Timeout: clientTimeout}
	})
	id := w.recorder.Client()
	seen := map[string]string{}
	for ctx.Err() == nil {
		name := secretName(random.IntN(workloadSecrets))
		switch in := (history.Input{Secret: name}); random.IntN(10) {
		case 0, 1, 2:
			in.Kind, in.Version = history.Put, uuid.NewString()
			id = w.recorder.Do(id, in, func() history.Output { return w.put(c, name, in.Version) })
		case 3:
			in.Kind, in.Label, in.From, in.To = history.Move, "AWSCURRENT", seen["AWSCURRENT"+name], seen["AWSPREVIOUS"+name]
			if in.From == "" || in.To == "" {
				continue
			}
			id = w.recorder.Do(id, in, func() history.Output { return w.move(c, in) })
		default:
			in.Kind, in.Label = history.Get, []string{"AWSCURRENT", "AWSCURRENT", "AWSPREVIOUS"}[random.IntN(3)]
			id = w.recorder.Do(id, in, func() history.Output {
				out := w.get(c, name, in.Label)
				if mark.Stale {
					w.stale[node].Add(1)
					return history.Output{Unknown: true}
				}
				if !out.Unknown {
					seen[in.Label+name] = out.Version
				}
				return out
			})
		}
		select { // a node that is down refuses at once
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// value is the one value that version's id stands for.
func value(version string) string { return "value of " + version }

func (w *workload) outcome(err error) history.Output {
	if err == nil {
		w.ok.Add(1)
	}
	return history.OutputOf(err)
}

func (w *workload) put(c *client, name, version string) history.Output {
	_, err := c.PutSecretValue(context.Background(), &secretsmanager.PutSecretValueInput{
		SecretId: &name, ClientRequestToken: &version, SecretString: aws.String(value(version)),
	})
	return w.outcome(err)
}

func (w *workload) move(c *client, in history.Input) history.Output {
	_, err := c.UpdateSecretVersionStage(context.Background(), &secretsmanager.UpdateSecretVersionStageInput{
		SecretId: &in.Secret, VersionStage: &in.Label, RemoveFromVersionId: &in.From, MoveToVersionId: &in.To,
	})
	return w.outcome(err)
}

func (w *workload) get(c *client, name, label string) history.Output {
	got, err := c.GetSecretValue(context.Background(), &secretsmanager.GetSecretValueInput{
		SecretId: &name, VersionStage: &label,
	})
	var none *types.ResourceNotFoundException
	if errors.As(err, &none) {
		return history.Output{}
	}
	out := w.outcome(err)
	if err != nil {
		out.Unknown = true
		return out
	}
	if *got.SecretString != value(*got.VersionId) {
		what := fmt.Sprintf("version %s of %s has the value of another", *got.VersionId, name)
		w.wrong.Store(&what)
	}
	out.Version = *got.VersionId
	return out
}

// progress waits until the clients have succeeded at some more operations.
func (w *workload) progress() {
	w.t.Helper()
	from := w.ok.Load()
	noError(w.t, testcluster.Eventually(ctx(w.t, 30*time.Second), "clients to succeed", func() error {
		if done := w.ok.Load() - from; done < 200 {
			return fmt.Errorf("%d operations", done)
		}
		return nil
	}))
}

// awaitStale waits until a node has answered a read without a leader's word.
func (w *workload) awaitStale(n *testcluster.Node) {
	w.t.Helper()
	before := w.stale[n].Load()
	noError(w.t, testcluster.Eventually(ctx(w.t, time.Minute), n.ID+" to mark a read as stale", func() error {
		if w.stale[n].Load() == before {
			return errors.New("it has marked none")
		}
		return nil
	}))
}

// finish ends the clients and checks their history.
func (w *workload) finish() {
	w.t.Helper()
	w.stop()
	w.clients.Wait()
	if what := w.wrong.Load(); what != nil {
		w.t.Error(*what)
	}
	ops := w.recorder.Operations()
	noError(w.t, history.Check(ops, time.Minute))
	stale := int64(0)
	for _, count := range w.stale {
		stale += count.Load()
	}
	w.t.Logf("%d operations are linearizable; %d reads were marked stale", len(ops), stale)
}
