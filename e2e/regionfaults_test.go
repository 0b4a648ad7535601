package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"

	"coffer/internal/testcluster"
)

// TestRegionFaults replicates through proxies that delay, reset, hold back and lose answers, so that messages arrive
// twice and out of order, while the nodes on both sides are killed. The replicas' views are in order, whole and unique,
// and converge.
func TestRegionFaults(t *testing.T) {
	r := newRegions(t, 1)
	noError(t, r.UseProxies())
	noError(t, r.Start(ctx(t, time.Minute)))
	const secrets = 4
	name := func(i int) string { return fmt.Sprint("faulty/", i) }
	version := func(n int) string { return fmt.Sprintf("version-%032d", n) }
	for i := range secrets {
		replicated(t, r.Of(us).Nodes[0].Client(), name(i), "0", eu, ap)
		put(t, r.Of(us).Nodes[0].Client(), secretsmanager.PutSecretValueInput{
			SecretId: aws.String(name(i)), SecretString: aws.String("0"), ClientRequestToken: aws.String(version(0)),
		})
	}
	for _, region := range []string{eu, ap} {
		for i := range secrets {
			within(t, 30*time.Second, "the counting to begin", func() error {
				d := describe(t, r.Of(region).Nodes[0].Client(), name(i))
				if len(d.VersionIdsToStages[version(0)]) == 0 {
					return errors.New("not yet")
				}
				return nil
			})
		}
	}
	for _, n := range r.All() {
		n.Proxy().Set(testcluster.Faults{
			Delay: 2 * time.Millisecond, Jitter: 10 * time.Millisecond, Reset: 0.01, Mute: 0.2, Hold: 0.02, HoldFor: time.Second,
		})
	}
	loop, stop := context.WithCancel(t.Context())
	defer stop()
	var clients sync.WaitGroup
	var last [secrets]atomic.Int64
	for i := range secrets {
		clients.Go(func() {
			c := r.Of(us).Nodes[0].Client(testcluster.Once)
			for n := 1; loop.Err() == nil; n++ {
				for loop.Err() == nil {
					_, err := c.PutSecretValue(loop, &secretsmanager.PutSecretValueInput{
						SecretId: aws.String(name(i)), ClientRequestToken: aws.String(version(n)),
						SecretString: aws.String(strconv.Itoa(n)),
					})
					if err == nil {
						last[i].Store(int64(n))
						break
					}
					pause(t, 5*time.Millisecond)
				}
				pause(t, 5*time.Millisecond)
			}
		})
	}
	views := atomic.Int64{}
	for _, region := range []string{eu, ap} {
		clients.Go(func() {
			c := r.Of(region).Nodes[0].Client(testcluster.Once)
			seen := [secrets]int{}
			for i := 0; loop.Err() == nil; i = (i + 1) % secrets {
				d, err := c.DescribeSecret(loop, &secretsmanager.DescribeSecretInput{SecretId: aws.String(name(i))})
				if err != nil {
					pause(t, 5*time.Millisecond)
					continue
				}
				current, previous := -1, -1
				for id, labels := range d.VersionIdsToStages {
					n, err := strconv.Atoi(strings.TrimPrefix(id, "version-"))
					for _, label := range labels {
						switch {
						case err != nil: // the value that it was created with
						case label == "AWSCURRENT":
							current = n
						case label == "AWSPREVIOUS":
							previous = n
						}
					}
				}
				if current < seen[i] || current > 0 && previous != current-1 {
					t.Errorf("%s in %s: AWSCURRENT is %d, AWSPREVIOUS %d, after %d", name(i), region, current, previous, seen[i])
				}
				seen[i] = current
				views.Add(1)
				got, err := c.GetSecretValue(loop, &secretsmanager.GetSecretValueInput{
					SecretId: aws.String(name(i)), VersionId: aws.String(version(current)),
				})
				if err == nil && *got.SecretString != strconv.Itoa(current) {
					t.Errorf("%s in %s: version %d has another value", name(i), region, current)
				}
			}
		})
	}
	for _, region := range []string{eu, us, ap, us} {
		pause(t, 2*time.Second)
		n := r.Of(region).Nodes[0]
		n.Kill()
		noError(t, n.Start())
		noError(t, n.AwaitReady(ctx(t, time.Minute)))
	}
	pause(t, 2*time.Second)
	for _, n := range r.All() {
		n.Proxy().Set(testcluster.Faults{})
	}
	stop()
	clients.Wait()
	for i := range secrets {
		for _, region := range []string{eu, ap} {
			within(t, 30*time.Second, "the replicas to converge", func() error {
				got, err := r.Of(region).Nodes[0].Client().GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{
					SecretId: aws.String(name(i)),
				})
				if err != nil {
					return err
				}
				if n, _ := strconv.ParseInt(*got.SecretString, 10, 64); n < last[i].Load() {
					return fmt.Errorf("%s in %s has %d of %d", name(i), region, n, last[i].Load())
				}
				return nil
			})
		}
	}
	t.Logf("%d views of replicas", views.Load())
}

// TestReplicationCanary plants values, replicates them with all that can go wrong, and searches what went between the
// regions, and everything that they wrote.
func TestReplicationCanary(t *testing.T) {
	r := newRegions(t, 1)
	noError(t, r.UseProxies())
	var wire bytes.Buffer
	var mu sync.Mutex
	for _, n := range r.All() {
		n.Proxy().Set(testcluster.Faults{Record: func(b []byte) { mu.Lock(); defer mu.Unlock(); wire.Write(b) }})
	}
	noError(t, r.Start(ctx(t, time.Minute)))
	var planted []string
	plant := func() string {
		planted = append(planted, fmt.Sprintf("Canary%d<\u00e9\n>%s", len(planted), strings.Repeat("zQ7x", 8)))
		return planted[len(planted)-1]
	}
	primary, replica := r.Of(us).Nodes[0], r.Of(eu).Nodes[0]
	replicated(t, primary.Client(), "canary", plant(), eu, ap)
	for range 30 {
		put(t, primary.Client(), secretsmanager.PutSecretValueInput{
			SecretId: aws.String("canary"), SecretString: aws.String(plant()),
		})
	}
	put(t, primary.Client(), secretsmanager.PutSecretValueInput{
		SecretId: aws.String("canary"), SecretBinary: []byte(plant()),
	})
	create(t, replica.Client(), "in-the-way", plant())
	_, err := primary.Client().CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
		Name: aws.String("in-the-way"), SecretString: aws.String(plant()), AddReplicaRegions: replicaRegions(eu),
		ClientRequestToken: aws.String(uuid.NewString()),
	})
	noError(t, err)
	awaitStatus(t, primary.Client(), "in-the-way", eu, "Failed")
	_, err = primary.Client().ReplicateSecretToRegions(t.Context(), &secretsmanager.ReplicateSecretToRegionsInput{
		SecretId: aws.String("in-the-way"), AddReplicaRegions: replicaRegions(eu), ForceOverwriteReplicaSecret: true,
	})
	noError(t, err)
	awaitStatus(t, primary.Client(), "in-the-way", eu, "InSync")
	awaitStatus(t, primary.Client(), "canary", eu, "InSync")
	answers := operate(t, primary, "region", "switchover", "--to", eu) + operate(t, replica, "displaced",
		"list") + operate(t, replica, "regions", "status")
	for _, n := range r.All() {
		_, metrics, err := n.Get("/metrics")
		noError(t, err)
		answers += metrics
		n.Stop()
	}
	needles := forms(planted)
	mu.Lock()
	defer mu.Unlock()
	if wire.Len() < 50_000 {
		t.Errorf("only %d bytes went between the regions", wire.Len())
	}
	if found(needles, wire.Bytes()) || found(needles, []byte(answers)) {
		t.Error("a value is on the wire between regions, or in what operators are told")
	}
	if searched := search(t, r.Dir, needles); searched < 20 {
		t.Errorf("only %d files were searched", searched)
	}
}

// TestReplicationKey rotates the key that a region is sent to under, puts it under another root key, and forms the
// region anew: that one is not trusted before an operator says so.
func TestReplicationKey(t *testing.T) {
	r := startRegions(t, 1)
	primary, node := r.Of(us).Nodes[0].Client(), r.Of(eu).Nodes[0]
	replicated(t, primary, "keyed", "0", eu)
	change := func(value string) {
		t.Helper()
		put(t, primary, secretsmanager.PutSecretValueInput{SecretId: aws.String("keyed"), SecretString: aws.String(value)})
		awaitValue(t, node.Client(), "keyed", value)
		awaitStatus(t, primary, "keyed", eu, "InSync")
	}
	first := operate(t, node, "regions", "rotate-key")
	change("1")
	if second := operate(t, node, "regions", "rotate-key"); second == first {
		t.Error("the key was not rotated")
	}
	change("2")
	operate(t, node, "rootkey", "rotate", must(node.NextRootKey(2))(t))
	node.Kill()
	noError(t, node.Start())
	ready(t, node)
	change("3")
	awaitDown := func(want string) {
		t.Helper()
		within(t, 30*time.Second, "the key in use to be known", func() error {
			if line := lineWith(operate(t, r.Of(us).Nodes[0], "regions", "status"), eu); !strings.Contains(line, want) {
				return errors.New(line)
			}
			return nil
		})
	}
	awaitDown("reachable")

	node.Kill()
	noError(t, node.Wipe())
	noError(t, node.Start())
	ready(t, node)
	put(t, primary, secretsmanager.PutSecretValueInput{SecretId: aws.String("keyed"), SecretString: aws.String("4")})
	if message := awaitStatus(t, primary, "keyed", eu, "Failed"); !strings.Contains(message, "coffer regions trust") {
		t.Errorf("the status tells %q", message)
	}
	if _, err := node.Client().GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{
		SecretId: aws.String("keyed"),
	}); err == nil {
		t.Error("a region that is not trusted was sent something")
	}
	operate(t, r.Of(us).Nodes[0], "regions", "trust", eu)
	awaitValue(t, node.Client(), "keyed", "4")
	change("5")
}

// TestRestoredRegions restores the primary's region and a replica region from snapshots that are older than what they
// have replicated.
func TestRestoredRegions(t *testing.T) {
	r := startRegions(t, 1)
	home, away := r.Of(us).Nodes[0], r.Of(eu).Nodes[0]
	replicated(t, home.Client(), "restored", "1", eu)
	snapshots := map[*testcluster.Node]string{
		home: filepath.Join(t.TempDir(), "home"), away: filepath.Join(t.TempDir(), "away"),
	}
	for n, path := range snapshots {
		operate(t, n, "snapshot", "save", path)
	}
	for _, value := range []string{"2", "3"} {
		put(t, home.Client(), secretsmanager.PutSecretValueInput{
			SecretId: aws.String("restored"), SecretString: aws.String(value),
		})
		awaitValue(t, away.Client(), "restored", value)
	}
	replicated(t, home.Client(), "later", "1", eu)
	operate(t, away, "snapshot", "restore", snapshots[away])
	awaitValue(t, away.Client(), "restored", "3")
	awaitValue(t, away.Client(), "later", "1")
	awaitStatus(t, home.Client(), "restored", eu, "InSync")

	operate(t, home, "snapshot", "restore", snapshots[home])
	awaitValue(t, away.Client(), "restored", "1")
	awaitStatus(t, home.Client(), "restored", eu, "InSync")
	awaitSame(t, home.Client(), away.Client(), "restored")
	if list := operate(t, away, "displaced", "list"); strings.Count(list, "restored") != 1 {
		t.Errorf("what only the replica had is not set aside:\n%s", list)
	}
	awaitValue(t, away.Client(), "later", "1") // its primary is gone: it stays, and is counted
	within(t, 2*time.Minute, "the replica without a primary to be counted", func() error {
		if n, err := home.Metric(fmt.Sprintf("coffer_replication_orphans{region=%q}", eu)); err != nil || n != "1" {
			return fmt.Errorf("%s %w", n, err)
		}
		return nil
	})
}
