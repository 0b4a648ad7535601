package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"coffer/internal/testcluster"
	"coffer/kms/rootkey"
)

// isSealed waits until the node says on /readyz that it is sealed, and no more; operators are told why.
func isSealed(t *testing.T, n *testcluster.Node, why string) {
	t.Helper()
	noError(t, testcluster.Eventually(ctx(t, time.Minute), n.ID+" to be sealed: "+why, func() error {
		status, body, err := n.Get("/readyz")
		if err != nil {
			return err
		}
		if status != 503 || body != "not ready: sealed\n" {
			return fmt.Errorf("%d %s", status, body)
		}
		if told := operate(t, n, "rootkey", "status"); !strings.Contains(told, why) {
			return errors.New(told)
		}
		return nil
	}))
}

// ready waits until the node is.
func ready(t *testing.T, n *testcluster.Node) {
	t.Helper()
	noError(t, n.AwaitReady(ctx(t, time.Minute)))
}

func operate(t *testing.T, n *testcluster.Node, args ...string) string {
	t.Helper()
	out, err := n.Operate(ctx(t, time.Minute), args...)
	if err != nil {
		t.Fatalf("coffer %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// TestRootKeyRotation rotates the root key under load with a node down: nothing fails, the node learns of it on its
// return, and a key that a node can't reach is refused.
func TestRootKeyRotation(t *testing.T) {
	cluster := startCluster(t, 3)
	k := cluster.BalancedKMS()
	key := newKey(t, k, kms.CreateKeyInput{})
	sealed := must(k.Encrypt(t.Context(), &kms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte("x")}))(t).CiphertextBlob
	_, err := cluster.Balanced().CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
		Name: aws.String("s"), SecretString: aws.String("v"), KmsKeyId: key.KeyId,
	})
	noError(t, err)
	down := cluster.Nodes[2]
	down.Stop()

	load, stop := context.WithCancel(t.Context())
	var g sync.WaitGroup
	defer g.Wait()
	defer stop()
	var done atomic.Int64
	for i := range 6 {
		n := cluster.Nodes[i%2]
		g.Go(func() {
			c, k := n.Client(), n.KMS()
			for j := 0; load.Err() == nil; j++ {
				var err error
				switch j % 4 {
				case 0:
					_, err = c.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
						SecretId: aws.String("s"), SecretString: aws.String("v"),
					})
				case 1:
					_, err = c.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("s")})
				case 2:
					_, err = k.CreateKey(t.Context(), &kms.CreateKeyInput{})
				default:
					_, err = k.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed})
				}
				if err != nil {
					t.Errorf("during the rotation: %v", err)
					return
				}
				done.Add(1)
			}
		})
	}
	more := func() {
		t.Helper()
		from := done.Load()
		noError(t, testcluster.Eventually(ctx(t, time.Minute), "more requests", func() error {
			if n := done.Load() - from; n < 60 && !t.Failed() {
				return fmt.Errorf("%d requests", n)
			}
			return nil
		}))
	}
	more()
	second := must(cluster.Nodes[0].NextRootKey(2))(t)
	if out := operate(t, cluster.Nodes[0], "rootkey", "rotate", "file:"+second); !strings.Contains(out,
		"without it: "+down.ID) {
		t.Errorf("the rotation says %q", out)
	}
	more()
	stop()
	g.Wait()
	if t.Failed() {
		return
	}
	noError(t, down.Start()) // with the root key of before in its configuration
	ready(t, down)
	reads := func(n *testcluster.Node) {
		t.Helper()
		if got := get(t, n.Client(), secretsmanager.GetSecretValueInput{
			SecretId: aws.String("s"),
		}); *got.SecretString != "v" {
			t.Errorf("%s reads %q", n.ID, *got.SecretString)
		}
		if got := must(n.KMS().Decrypt(t.Context(),
			&kms.DecryptInput{CiphertextBlob: sealed}))(t); string(got.Plaintext) != "x" {
			t.Errorf("%s decrypts to %q", n.ID, got.Plaintext)
		}
	}
	reads(down)
	for _, n := range cluster.Nodes { // the new one in the configuration, the old one gone
		n.Stop()
		n.UseRootKey(second)
		noError(t, n.Start())
		ready(t, n)
		reads(n)
	}

	// One node has no such variable: it would be sealed.
	third := strings.TrimSpace(string(rootkey.Generate()))
	const mayUse = "COFFER_ROOT_KEY_NEXT=env:THIRD_KEY"
	for _, n := range cluster.Nodes {
		n.Stop()
		n.Env = []string{mayUse}
		if n != down {
			n.Env = append(n.Env, "THIRD_KEY="+third)
		}
		noError(t, n.Start())
		ready(t, n)
	}
	leader := must(cluster.Leader(ctx(t, time.Minute)))(t)
	if leader == down {
		operate(t, down, "cluster", "transfer-leader", "n1")
	}
	out, err := cluster.Nodes[0].Operate(ctx(t, time.Minute), "rootkey", "rotate", "env:THIRD_KEY")
	if err == nil || !strings.Contains(out, "its log says why") || !strings.Contains(out, "--force") {
		t.Fatalf("a rotation to what %s can't reach: %v, %s", down.ID, err, out)
	}
	reads(down)
	if out := operate(t, cluster.Nodes[0], "rootkey", "rotate", "env:THIRD_KEY",
		"--force"); !strings.Contains(out, "without it: "+down.ID) {
		t.Errorf("the forced rotation says %q", out)
	}
	isSealed(t, down, "sealed")
	reads(cluster.Nodes[0])
	down.Stop()
	down.Env = append(down.Env, "THIRD_KEY="+third)
	noError(t, down.Start())
	ready(t, down)
	reads(down)
}

// TestRewrapAfterRotation rotates a KMS key and brings the data keys to its new material.
func TestRewrapAfterRotation(t *testing.T) {
	cluster := startCluster(t, 3)
	k, c := cluster.BalancedKMS(), cluster.Balanced()
	key := newKey(t, k, kms.CreateKeyInput{})
	for i := range 30 {
		_, err := c.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
			Name: aws.String(fmt.Sprint("s", i)), SecretString: aws.String(fmt.Sprint(i)), KmsKeyId: key.KeyId,
		})
		noError(t, err)
	}
	_, err := k.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: key.KeyId})
	noError(t, err)
	status := func() string {
		return strings.Join(strings.Fields(operate(t, cluster.Nodes[1], "keys", "status")), " ")
	}
	if got := status(); !strings.Contains(got, *key.KeyId+" Enabled 0 30") {
		t.Errorf("before: %s", got)
	}
	for _, rewrapped := range []string{"30", "0"} { // the second time there is nothing left to do
		if out := operate(t, cluster.Nodes[2], "keys", "rewrap"); out != "30 versions looked at, "+rewrapped+
			" rewrapped, 0 under keys that can't be used now\n" {
			t.Errorf("rewrapped: %s", out)
		}
		if got := status(); !strings.Contains(got, *key.KeyId+" Enabled 1 (current) 30") || strings.Contains(got, " 0 30") {
			t.Errorf("after: %s", got)
		}
	}
	for i := range 30 {
		if got := get(t, c, secretsmanager.GetSecretValueInput{
			SecretId: aws.String(fmt.Sprint("s", i)),
		}); *got.SecretString != fmt.Sprint(i) {
			t.Errorf("s%d is %q", i, *got.SecretString)
		}
	}
}

// TestShares runs a cluster whose root key nobody's machine holds: sealed nodes take part in Raft and serve nothing.
func TestShares(t *testing.T) {
	cluster := newCluster(t, 3)
	path := filepath.Join(t.TempDir(), "shares")
	out, err := exec.CommandContext(t.Context(), cluster.Binary, "keygen", "root-key-shares", "--shares", "4",
		"--threshold", "3", "--out", path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	shares := strings.Fields(string(must(os.ReadFile(path))(t)))
	for _, n := range cluster.Nodes {
		n.UseRootKey("shamir")
		noError(t, n.Start())
	}
	for _, n := range cluster.Nodes {
		isSealed(t, n, "sealed")
	}
	unseal := func(n *testcluster.Node, give ...string) string {
		t.Helper()
		said := ""
		for _, share := range give {
			out, err := n.OperateWith(ctx(t, time.Minute), share+"\n", "unseal")
			if err != nil {
				t.Fatalf("unseal: %v\n%s", err, out)
			}
			said = out
		}
		return said
	}
	if out, err := cluster.Nodes[0].OperateWith(ctx(t, time.Minute), strings.Replace(shares[0], "1", "2", 3)+"\n",
		"unseal"); err == nil {
		t.Errorf("a share with a typing error was taken: %s", out)
	}
	if said := unseal(cluster.Nodes[0], shares[0], shares[0], shares[1]); !strings.Contains(said, "2 of 3 shares") {
		t.Errorf("two shares, one of them twice: %s", said)
	}
	for i, n := range cluster.Nodes {
		unseal(n, shares[i%2], shares[2], shares[3])
		if i == 0 {
			unseal(n, shares[1])
		}
	}
	for _, n := range cluster.Nodes {
		ready(t, n)
	}
	create(t, cluster.Nodes[0].Client(), "s", "v")

	n := cluster.Nodes[1]
	n.Kill()
	noError(t, n.Start())
	isSealed(t, n, "sealed")
	_, err = n.Client(testcluster.Once).GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{
		SecretId: aws.String("s"),
	})
	wantCode(t, err, "ServiceUnavailableException", "sealed")
	_, err = n.KMS().ListKeys(t.Context(), &kms.ListKeysInput{}, func(o *kms.Options) { o.Retryer = aws.NopRetryer{} })
	wantCode(t, err, "ServiceUnavailableException", "sealed")
	_, err = n.Client(testcluster.Once).GetRandomPassword(t.Context(), &secretsmanager.GetRandomPasswordInput{})
	wantCode(t, err, "ServiceUnavailableException", "sealed")
	cluster.Nodes[2].Kill() // the sealed node is needed for a majority
	put(t, cluster.Nodes[0].Client(), secretsmanager.PutSecretValueInput{
		SecretId: aws.String("s"), SecretString: aws.String("w"),
	})
	if said := unseal(n, shares[0], shares[1], shares[2]); !strings.Contains(said, "is unsealed") {
		t.Errorf("the third share: %s", said)
	}
	ready(t, n)
	if got := get(t, n.Client(), secretsmanager.GetSecretValueInput{SecretId: aws.String("s")}); *got.SecretString != "w" {
		t.Errorf("the unsealed node reads %q", *got.SecretString)
	}
}

// TestRootKeyInAnotherRegion keeps a cluster's root key in the KMS of another: a node that starts while that can't
// be reached is sealed, and unseals itself.
func TestRootKeyInAnotherRegion(t *testing.T) {
	keeper := startCluster(t, 1)
	key := newKey(t, keeper.Nodes[0].KMS(), kms.CreateKeyInput{})
	_, err := keeper.Nodes[0].KMS().CreateAlias(t.Context(), &kms.CreateAliasInput{
		AliasName: aws.String("alias/root"), TargetKeyId: key.KeyId,
	})
	noError(t, err)
	credentials := filepath.Join(t.TempDir(), "credentials")
	noError(t, os.WriteFile(credentials, fmt.Appendf(nil,
		"[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n",
		keeper.Credentials.AccessKeyID, keeper.Credentials.SecretAccessKey), 0o600))

	cluster := newCluster(t, 3)
	for _, n := range cluster.Nodes {
		n.UseRootKey("awskms:alias/root?region=us-east-1&endpoint=" + keeper.Nodes[0].Endpoint + "&credentials=" +
			credentials)
	}
	noError(t, cluster.Start(ctx(t, time.Minute)))
	create(t, cluster.Balanced(), "s", "v")
	keeper.Nodes[0].Kill()
	n := cluster.Nodes[0]
	n.Kill()
	noError(t, n.Start())
	isSealed(t, n, "sealed: the root key awskms:alias/root can't be reached")
	// what is unwrapped stays
	get(t, cluster.Nodes[1].Client(), secretsmanager.GetSecretValueInput{SecretId: aws.String("s")})
	noError(t, keeper.Nodes[0].Start())
	ready(t, n)
	get(t, n.Client(), secretsmanager.GetSecretValueInput{SecretId: aws.String("s")})
}

// TestRootKeyInHSM keeps the root key in a token of SoftHSM 2, and moves to it from a file.
func TestRootKeyInHSM(t *testing.T) {
	binary := must(testcluster.BuildWith(ctx(t, 5*time.Minute), t.TempDir(), "pkcs11"))(t)
	module := softHSM(t)
	pin := filepath.Join(t.TempDir(), "pin")
	noError(t, os.WriteFile(pin, []byte("1234\n"), 0o600))
	spec := "pkcs11:token=coffer;object=root?module-path=" + module + "&pin-source=file:" + pin

	cluster := newCluster(t, 1)
	cluster.Binary = binary
	n := cluster.Nodes[0]
	n.Env = []string{"COFFER_ROOT_KEY_NEXT=" + spec}
	noError(t, cluster.Start(ctx(t, time.Minute)))
	create(t, n.Client(), "s", "v")
	operate(t, n, "rootkey", "rotate", spec)
	n.Stop()
	n.UseRootKey(spec)
	noError(t, n.Start())
	ready(t, n)
	if got := get(t, n.Client(), secretsmanager.GetSecretValueInput{SecretId: aws.String("s")}); *got.SecretString != "v" {
		t.Errorf("under the HSM's key it reads %q", *got.SecretString)
	}
	key := newKey(t, n.KMS(), kms.CreateKeyInput{})
	_, err := n.KMS().Encrypt(t.Context(), &kms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte("x")})
	noError(t, err)

	n.Stop()
	noError(t, os.WriteFile(pin, []byte("9999\n"), 0o600))
	noError(t, n.Start())
	isSealed(t, n, "sealed: the HSM's token coffer")
	noError(t, os.WriteFile(pin, []byte("1234\n"), 0o600))
	ready(t, n)
}

// softHSM makes a token "coffer" with an AES key "root", for this process and its children, and answers the module.
func softHSM(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "softhsm2.conf")
	noError(t, errors.Join(os.Mkdir(filepath.Join(dir, "tokens"), 0o700),
		os.WriteFile(config, []byte("directories.tokendir = "+dir+"/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"),
			0o600)))
	t.Setenv("SOFTHSM2_CONF", config)
	module := ""
	for _, path := range []string{
		"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
		"/usr/lib64/softhsm/libsofthsm2.so",
	} {
		if _, err := os.Stat(path); err == nil {
			module = path
			break
		}
	}
	if module == "" {
		t.Fatal("SoftHSM 2 is not installed: scripts/test installs it")
	}
	for _, args := range [][]string{
		{"softhsm2-util", "--init-token", "--free", "--label", "coffer", "--so-pin", "5678", "--pin", "1234"},
		{
			"pkcs11-tool", "--module", module, "--token-label", "coffer", "--login", "--pin", "1234", "--keygen", "--key-type",
			"AES:32", "--label", "root", "--sensitive",
		},
	} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", args[0], err, out)
		}
	}
	return module
}
