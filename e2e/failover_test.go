package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"coffer/internal/testcluster"
)

// TestFailover loses a region, promotes its replicas, brings it home with what it wrote alone set aside, and hands the
// primary role back.
func TestFailover(t *testing.T) {
	r := startRegions(t, 1)
	at := map[string]*client{}
	node := map[string]*testcluster.Node{}
	for _, c := range r.Clusters {
		at[c.Region], node[c.Region] = c.Nodes[0].Client(), c.Nodes[0]
	}
	for i := range 10 {
		replicated(t, at[us], fmt.Sprintf("app/both-%d", i), "1", eu, ap)
	}
	replicated(t, at[us], "app/eu-only", "1", eu)
	replicated(t, at[us], "app/ap-only", "1", ap)
	replicated(t, at[eu], "app/theirs", "1", us)
	create(t, at[us], "app/nowhere", "1")

	out, err := node[eu].Operate(t.Context(), "region", "failover", "--lost", us)
	if err == nil || !strings.Contains(out, "still answers") {
		t.Fatalf("a region that answers was failed over: %s", out)
	}
	node[us].Kill()
	report := operate(t, node[eu], "region", "failover", "--lost", us, "--dry-run")
	if !strings.Contains(report, "12 secrets would be promoted; 1 of them have no replica in eu-west-1: [app/ap-only]") {
		t.Errorf("the dry run tells:\n%s", report)
	}
	if describe(t, at[eu], "app/both-0").PrimaryRegion == nil {
		t.Error("the dry run promoted")
	}
	report = operate(t, node[eu], "region", "failover", "--lost", us)
	if !strings.Contains(report, "12 secrets promoted") || !strings.Contains(lineWith(report, "app/ap-only"), ap) ||
		!strings.Contains(lineWith(report, "app/eu-only"), eu) {
		t.Errorf("the report tells:\n%s", report)
	}
	if again := operate(t, node[ap], "region", "failover", "--lost",
		us); !strings.Contains(lineWith(again, "app/both-0"), "promoted before") ||
		!strings.Contains(lineWith(again, "app/both-0"), eu) {
		t.Errorf("the same again tells:\n%s", again)
	}
	primary := func(name string) (region string) {
		for _, candidate := range []string{eu, ap} {
			if d, err := at[candidate].DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{
				SecretId: &name,
			}); err == nil && (d.PrimaryRegion == nil || *d.PrimaryRegion == candidate) {
				region += candidate
			}
		}
		return region
	}
	for name, want := range map[string]string{"app/both-3": eu, "app/eu-only": eu, "app/ap-only": ap, "app/theirs": eu} {
		if got := primary(name); got != want {
			t.Errorf("the primary of %s is in %q, not in %s", name, got, want)
		}
	}
	for i := range 10 {
		name := fmt.Sprintf("app/both-%d", i)
		put(t, at[eu], secretsmanager.PutSecretValueInput{SecretId: &name, SecretString: aws.String("2")})
		awaitValue(t, at[ap], name, "2")
	}

	t.Log("the region returns, and its clients have not heard of it")
	noError(t, node[us].Start())
	noError(t, node[us].AwaitReady(ctx(t, time.Minute)))
	put(t, at[us], secretsmanager.PutSecretValueInput{
		SecretId: aws.String("app/both-0"), SecretString: aws.String("nobody received this"),
	})
	noError(t, r.AwaitConnected(ctx(t, time.Minute)))
	if got := get(t, at[eu], secretsmanager.GetSecretValueInput{
		SecretId: aws.String("app/both-0"),
	}); *got.SecretString != "2" {
		t.Fatal("the old primary changed a promoted secret")
	}
	if out := operate(t, node[eu], "region", "failback", "--to",
		us); !strings.Contains(out, us+" is a replica region of 12 secrets") {
		t.Errorf("failback tells:\n%s", out)
	}
	awaitValue(t, at[us], "app/both-0", "2")
	displaced := operate(t, node[us], "displaced", "list")
	if strings.Count(displaced, "app/") != 1 || !strings.Contains(displaced, "app/both-0") {
		t.Errorf("what the region had written alone is not what was displaced:\n%s", displaced)
	}
	id := strings.Fields(lineWith(displaced, "app/both-0"))[0]
	operate(t, node[us], "displaced", "restore", id, "--name", "app/both-0/lost")
	if got := get(t, at[us], secretsmanager.GetSecretValueInput{
		SecretId: aws.String("app/both-0/lost"),
	}); *got.SecretString != "nobody received this" {
		t.Error("what was displaced came back as something else")
	}

	t.Log("and is the primaries' region again")
	if out := operate(t, node[ap], "region", "failback", "--to",
		us, "--switch"); !strings.Contains(out, us+" is the primary's region of 12 secrets") {
		t.Errorf("failback tells:\n%s", out)
	}
	for _, name := range []string{"app/both-5", "app/eu-only", "app/ap-only"} {
		put(t, at[us], secretsmanager.PutSecretValueInput{SecretId: &name, SecretString: aws.String("3")})
	}
	awaitValue(t, at[eu], "app/both-5", "3")
	awaitValue(t, at[ap], "app/both-5", "3")
	awaitValue(t, at[eu], "app/eu-only", "3")
	awaitValue(t, at[ap], "app/ap-only", "3")
	if got := describe(t, at[eu], "app/theirs"); *got.PrimaryRegion != eu {
		t.Error("a secret of another region moved, too")
	}
	if status := operate(t, node[us], "regions", "status"); !strings.Contains(lineWith(status, eu), "reachable") ||
		strings.Contains(status, "this one") {
		t.Errorf("regions status tells:\n%s", status)
	}
	if list := operate(t, node[us], "regions", "list"); strings.Count(list, "alive") != 3 {
		t.Errorf("regions list tells:\n%s", list)
	}
}

// TestSwitchoverLosesNoWrite moves the primary role back and forth under writers, which write wherever they are let.
func TestSwitchoverLosesNoWrite(t *testing.T) {
	r := startRegions(t, 1)
	const secrets = 4
	for i := range secrets {
		replicated(t, r.Of(us).Nodes[0].Client(), fmt.Sprint("moved/", i), "0", eu, ap)
	}
	loop, stop := context.WithCancel(t.Context())
	defer stop()
	last := make([]string, secrets) // acknowledged
	var writers sync.WaitGroup
	for i := range secrets {
		clients := []*client{r.Of(us).Nodes[0].Client(testcluster.Once), r.Of(eu).Nodes[0].Client(testcluster.Once)}
		writers.Go(func() {
			for n := 1; loop.Err() == nil; n++ {
				value := fmt.Sprint(n)
				_, err := clients[0].PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
					SecretId: aws.String(fmt.Sprint("moved/", i)), SecretString: &value,
				})
				var refused *awshttp.ResponseError
				switch {
				case err == nil:
					last[i] = value
				case errors.As(err, &refused) && (refused.HTTPStatusCode() == http.StatusBadRequest ||
					refused.HTTPStatusCode() == http.StatusServiceUnavailable):
					clients[0], clients[1] = clients[1], clients[0]
				default:
					t.Errorf("secret %d: %v", i, err)
					return
				}
			}
		})
	}
	from, to := us, eu
	for range 6 {
		pause(t, 300*time.Millisecond)
		if out := operate(t, r.Of(from).Nodes[0], "region", "switchover", "--to", to, "--prefix",
			"moved/"); !strings.Contains(out, fmt.Sprintf("of %d secrets", secrets)) {
			t.Fatalf("switchover tells:\n%s", out)
		}
		from, to = to, from
	}
	stop()
	writers.Wait()
	for i := range secrets {
		name := fmt.Sprint("moved/", i)
		if last[i] == "" {
			t.Errorf("nobody could write to %s", name)
		}
		for _, c := range r.Clusters {
			awaitValue(t, c.Nodes[0].Client(), name, last[i])
		}
	}
}

// TestLinkRemovedAndAddedAgain does so twenty times, under writers. In the end the replica is as its primary.
func TestLinkRemovedAndAddedAgain(t *testing.T) {
	r := startRegions(t, 1)
	primary, replica := r.Of(us).Nodes[0].Client(), r.Of(eu).Nodes[0].Client()
	replicated(t, primary, "linked", "0", eu)
	loop, stop := context.WithCancel(t.Context())
	defer stop()
	var writers sync.WaitGroup
	for range 3 {
		writers.Go(func() {
			for loop.Err() == nil {
				if _, err := primary.PutSecretValue(loop, &secretsmanager.PutSecretValueInput{
					SecretId: aws.String("linked"), SecretString: aws.String("v"),
				}); err != nil && loop.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 20 {
		_, err := primary.RemoveRegionsFromReplication(t.Context(), &secretsmanager.RemoveRegionsFromReplicationInput{
			SecretId: aws.String("linked"), RemoveReplicaRegions: []string{eu},
		})
		noError(t, err)
		if i%2 == 0 {
			awaitGone(t, replica, "linked")
		}
		_, err = primary.ReplicateSecretToRegions(t.Context(), &secretsmanager.ReplicateSecretToRegionsInput{
			SecretId: aws.String("linked"), AddReplicaRegions: replicaRegions(eu),
		})
		noError(t, err)
		if i%3 == 0 {
			within(t, 30*time.Second, "the replica to be back", func() error {
				_, err := replica.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("linked")})
				return err
			})
		}
	}
	stop()
	writers.Wait()
	put(t, primary, secretsmanager.PutSecretValueInput{SecretId: aws.String("linked"), SecretString: aws.String("last")})
	awaitStatus(t, primary, "linked", eu, "InSync")
	awaitSame(t, primary, replica, "linked")
}

// TestPausedPrimaryOverThePromotion pauses the primary's region in the midst of writes, promotes its replica, and lets
// it go on: nothing of what it has under way changes the promoted secret.
func TestPausedPrimaryOverThePromotion(t *testing.T) {
	r := startRegions(t, 1)
	primary, replica := r.Of(us).Nodes[0], r.Of(eu).Nodes[0].Client()
	for i := range 8 {
		replicated(t, primary.Client(), fmt.Sprint("paused/", i), "0", eu)
	}
	loop, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			for n := 1; loop.Err() == nil; n++ {
				_, _ = primary.Client(testcluster.Once).PutSecretValue(loop, &secretsmanager.PutSecretValueInput{
					SecretId: aws.String(fmt.Sprint("paused/", i)), SecretString: aws.String(fmt.Sprint("theirs ", n)),
				})
			}
		})
	}
	pause(t, 300*time.Millisecond)
	primary.Signal(syscall.SIGSTOP)
	for i := range 8 {
		id := aws.String(fmt.Sprint("paused/", i))
		_, err := replica.StopReplicationToReplica(t.Context(), &secretsmanager.StopReplicationToReplicaInput{SecretId: id})
		noError(t, err)
		put(t, replica, secretsmanager.PutSecretValueInput{SecretId: id, SecretString: aws.String("ours")})
	}
	primary.Signal(syscall.SIGCONT)
	within(t, time.Minute, "the primary to drop its links", func() error {
		for i := range 8 {
			if d := describe(t, primary.Client(), fmt.Sprint("paused/", i)); d.ReplicationStatus != nil {
				return fmt.Errorf("secret %d has one", i)
			}
		}
		return nil
	})
	stop()
	writers.Wait()
	for i := range 8 {
		awaitValue(t, replica, fmt.Sprint("paused/", i), "ours")
	}
}
