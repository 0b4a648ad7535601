package node_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"coffer/cluster/pki"
	"coffer/iam"
	"coffer/internal/testcluster"
	"coffer/kms/rootkey"
	"coffer/node"
)

// running is a region of one node, in this process.
type running struct {
	*node.Node
	ahead   atomic.Int64 // of the machine's clock, in nanoseconds
	Secrets *secretsmanager.Client
	Keys    *kms.Client
}

func start(t *testing.T) *running {
	t.Helper()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	account := iam.GenerateCredentials("123456789012")
	text, err := json.Marshal(account)
	noError(t, err)
	noError(t, os.WriteFile(file("root-key"), rootkey.Generate(), 0o600))
	noError(t, os.WriteFile(file("gossip-key"), rootkey.Generate(), 0o600))
	noError(t, os.WriteFile(file("credentials"), text, 0o600))
	noError(t, pki.CreateAuthority(file("ca"), time.Now()))
	noError(t, pki.Issue(file("ca"), file("n1"), pki.Identity{Role: pki.Node, Region: "us-east-1", ID: "n1"}, time.Now()))

	r := &running{}
	r.Node, err = node.Start(node.Config{
		Data: file("data"), CA: filepath.Join(file("n1"), pki.CAFile), Cert: filepath.Join(file("n1"), pki.CertFile),
		Key: filepath.Join(file("n1"), pki.KeyFile), Listen: "127.0.0.1:0", Peer: "127.0.0.1:0", Gossip: "127.0.0.1:0",
		GossipKey: file("gossip-key"), BootstrapExpect: 1, RootKey: file("root-key"), RootCredentials: file("credentials"),
	}, node.Options{
		Log: slog.New(slog.DiscardHandler), Die: func(err error) { t.Error(err) },
		Now: func() time.Time { return time.Now().Add(time.Duration(r.ahead.Load())) },
	})
	noError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		noError(t, <-ended)
	})
	endpoint := aws.String(r.Endpoint())
	keys := credentials.NewStaticCredentialsProvider(account.AccessKeyID, account.SecretAccessKey, "")
	// The clients' clocks are right: they sign by the node's.
	r.Secrets = secretsmanager.New(secretsmanager.Options{Region: "us-east-1", BaseEndpoint: endpoint, Credentials: keys})
	r.Keys = kms.New(kms.Options{Region: "us-east-1", BaseEndpoint: endpoint, Credentials: keys})
	r.await(t, "the node to be ready", func() bool {
		resp, err := http.Get(r.Endpoint() + "/readyz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return r
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *running) await(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	noError(t, testcluster.Eventually(ctx, what, func() error {
		if done() {
			return nil
		}
		return context.DeadlineExceeded
	}))
}
