package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"coffer/internal/testcluster"
)

// The regions of tests.
const (
	us = "us-east-1"
	eu = "eu-west-1"
	ap = "ap-south-1"
)

// newRegions prepares three regions of real processes that end with the test.
func newRegions(t *testing.T, nodes int, args ...string) *testcluster.Regions {
	t.Helper()
	r, err := testcluster.NewRegions(t.TempDir(), binary, []string{us, eu, ap}, nodes, args...)
	noError(t, err)
	t.Cleanup(func() {
		r.Close()
		for _, n := range r.All() {
			if race := n.Race(); race != "" {
				t.Errorf("%s: %s", n.Log, race)
			}
			if t.Failed() {
				t.Logf("the end of %s:\n%s", n.Log, n.LogTail())
			}
		}
	})
	return r
}

func startRegions(t *testing.T, nodes int) *testcluster.Regions {
	t.Helper()
	r := newRegions(t, nodes)
	noError(t, r.Start(ctx(t, time.Minute)))
	return r
}

// within waits for something that replication brings about.
func within(t *testing.T, limit time.Duration, what string, check func() error) {
	t.Helper()
	noError(t, testcluster.Eventually(ctx(t, limit), what, check))
}

func describe(t *testing.T, c *client, id string) *secretsmanager.DescribeSecretOutput {
	t.Helper()
	return must(c.DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: &id}))(t)
}

// awaitStatus waits until the replication of a secret to a region has a status, and answers its message.
func awaitStatus(t *testing.T, c *client, id, region string, want types.StatusType) (message string) {
	t.Helper()
	within(t, 40*time.Second, fmt.Sprintf("%s in %s to be %s", id, region, want), func() error {
		got := describe(t, c, id).ReplicationStatus
		for _, s := range got {
			if *s.Region == region && s.Status == want {
				message = aws.ToString(s.StatusMessage)
				return nil
			}
		}
		return fmt.Errorf("it is %s", must(json.Marshal(got))(t))
	})
	return message
}

// awaitValue waits until a secret has a current value somewhere.
func awaitValue(t *testing.T, c *client, id, want string) {
	t.Helper()
	within(t, 30*time.Second, id+" to have its value", func() error {
		got, err := c.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: &id})
		if err != nil {
			return err
		}
		if aws.ToString(got.SecretString) != want {
			return fmt.Errorf("it has %s", aws.ToString(got.SecretString))
		}
		return nil
	})
}

func replicaRegions(regions ...string) (out []types.ReplicaRegionType) {
	for _, r := range regions {
		out = append(out, types.ReplicaRegionType{Region: aws.String(r)})
	}
	return out
}

func replicated(t *testing.T, c *client, name, value string, regions ...string) *secretsmanager.CreateSecretOutput {
	t.Helper()
	out, err := c.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
		Name: &name, SecretString: &value, AddReplicaRegions: replicaRegions(regions...),
	})
	noError(t, err)
	for _, r := range regions {
		awaitStatus(t, c, name, r, types.StatusTypeInSync)
	}
	return out
}

// contents is what a secret and its replica must have in common.
func contents(t *testing.T, c *client, id string) map[string]any {
	t.Helper()
	d := describe(t, c, id)
	got := map[string]any{
		"name": *d.Name, "description": aws.ToString(d.Description), "tags": string(must(json.Marshal(d.Tags))(t)),
		"created": *d.CreatedDate, "changed": *d.LastChangedDate,
		"stages": d.VersionIdsToStages, "primary": aws.ToString(d.PrimaryRegion),
	}
	policy := must(c.GetResourcePolicy(t.Context(), &secretsmanager.GetResourcePolicyInput{SecretId: &id}))(t)
	got["policy"] = aws.ToString(policy.ResourcePolicy)
	versions := map[string]string{}
	pages := secretsmanager.NewListSecretVersionIdsPaginator(c, &secretsmanager.ListSecretVersionIdsInput{
		SecretId: &id, IncludeDeprecated: aws.Bool(true),
	})
	for pages.HasMorePages() {
		for _, v := range must(pages.NextPage(t.Context()))(t).Versions {
			value := get(t, c, secretsmanager.GetSecretValueInput{SecretId: &id, VersionId: v.VersionId})
			versions[*v.VersionId] = fmt.Sprintf("%s %x %v", aws.ToString(value.SecretString), value.SecretBinary, v.CreatedDate)
		}
	}
	got["versions"] = versions
	return got
}

func awaitSame(t *testing.T, primary, replica *client, id string) {
	t.Helper()
	within(t, 30*time.Second, "the replica of "+id+" to be as its primary", func() error {
		if diff := cmp.Diff(contents(t, primary, id), contents(t, replica, id)); diff != "" {
			return errors.New("they differ: " + diff)
		}
		return nil
	})
}

// TestReplication goes through the API's operations on primaries and replicas, between processes of three regions.
func TestReplication(t *testing.T) {
	r := startRegions(t, 1)
	clients := map[string]*client{}
	for _, c := range r.Clusters {
		clients[c.Region] = c.Nodes[0].Client()
	}
	primary, replica := clients[us], clients[eu]
	s := aws.String

	t.Run("everything follows", func(t *testing.T) {
		out, err := primary.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
			Name: s("all/of-it"), SecretString: s("one"), Description: s("words"),
			Tags: []types.Tag{{Key: s("k"), Value: s("v")}}, AddReplicaRegions: replicaRegions(eu, ap),
		})
		noError(t, err)
		if len(out.ReplicationStatus) != 2 || out.ReplicationStatus[0].Status != types.StatusTypeInProgress {
			t.Errorf("the answer has %v", out.ReplicationStatus)
		}
		for _, region := range []string{eu, ap} {
			awaitStatus(t, primary, "all/of-it", region, types.StatusTypeInSync)
			got := describe(t, clients[region], "all/of-it")
			if *got.ARN != strings.Replace(*out.ARN, us, region, 1) || *got.PrimaryRegion != us || got.ReplicationStatus != nil {
				t.Errorf("the replica in %s is %s, primary %s", region, *got.ARN, *got.PrimaryRegion)
			}
		}
		if got := describe(t, primary, "all/of-it"); *got.PrimaryRegion != us {
			t.Errorf("the primary's region is %s", *got.PrimaryRegion)
		}
		second := put(t, primary, secretsmanager.PutSecretValueInput{
			SecretId: s("all/of-it"), SecretBinary: []byte{0, 1, 255},
		})
		put(t, primary, secretsmanager.PutSecretValueInput{
			SecretId: s("all/of-it"), SecretString: s("pending"), VersionStages: []string{"AWSPENDING", "mine"},
		})
		_, err = primary.UpdateSecretVersionStage(t.Context(), &secretsmanager.UpdateSecretVersionStageInput{
			SecretId: s("all/of-it"), VersionStage: s("AWSCURRENT"), RemoveFromVersionId: second.VersionId,
			MoveToVersionId: out.VersionId,
		})
		noError(t, err)
		_, err = primary.UpdateSecret(t.Context(), &secretsmanager.UpdateSecretInput{
			SecretId: s("all/of-it"), Description: s("other words"),
		})
		noError(t, err)
		_, err = primary.TagResource(t.Context(), &secretsmanager.TagResourceInput{
			SecretId: s("all/of-it"), Tags: []types.Tag{{Key: s("l"), Value: s("w")}},
		})
		noError(t, err)
		_, err = primary.UntagResource(t.Context(), &secretsmanager.UntagResourceInput{
			SecretId: s("all/of-it"), TagKeys: []string{"k"},
		})
		noError(t, err)
		_, err = primary.PutResourcePolicy(t.Context(), &secretsmanager.PutResourcePolicyInput{
			SecretId: s("all/of-it"), ResourcePolicy: s(`{"Version":"2012-10-17","Statement":[]}`),
		})
		if err != nil {
			_, err = primary.PutResourcePolicy(t.Context(),
				&secretsmanager.PutResourcePolicyInput{SecretId: s("all/of-it"),
					ResourcePolicy: s(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*",` +
						`"Action":"secretsmanager:DeleteSecret","Resource":"*"}]}`)})
		}
		noError(t, err)
		awaitSame(t, primary, clients[eu], "all/of-it")
		awaitSame(t, primary, clients[ap], "all/of-it")
	})

	t.Run("a secret without a value", func(t *testing.T) {
		_, err := primary.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
			Name: s("empty"), AddReplicaRegions: replicaRegions(eu),
		})
		noError(t, err)
		awaitStatus(t, primary, "empty", eu, types.StatusTypeInSync)
		_, err = replica.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: s("empty")})
		wantCode(t, err, "ResourceNotFoundException", "AWSCURRENT")
		put(t, primary, secretsmanager.PutSecretValueInput{SecretId: s("empty"), SecretString: s("no more")})
		awaitValue(t, replica, "empty", "no more")
	})

	t.Run("many versions", func(t *testing.T) {
		create(t, primary, "many", "0")
		for i := range 30 {
			put(t, primary, secretsmanager.PutSecretValueInput{
				SecretId: s("many"), SecretString: s(fmt.Sprint(i) + strings.Repeat("x", 60_000)),
			})
		}
		_, err := primary.ReplicateSecretToRegions(t.Context(), &secretsmanager.ReplicateSecretToRegionsInput{
			SecretId: s("many"), AddReplicaRegions: replicaRegions(eu),
		})
		noError(t, err)
		awaitStatus(t, primary, "many", eu, types.StatusTypeInSync)
		awaitSame(t, primary, replica, "many")
	})

	t.Run("a replica takes no writes", func(t *testing.T) {
		replicated(t, primary, "read-only", "v", eu)
		id := s("read-only")
		version := get(t, replica, secretsmanager.GetSecretValueInput{SecretId: id}).VersionId
		before := contents(t, replica, *id)
		c, at := replica, t.Context()
		for name, write := range map[string]func() error{
			"PutSecretValue": func() error {
				_, err := c.PutSecretValue(at, &secretsmanager.PutSecretValueInput{SecretId: id, SecretString: s("w")})
				return err
			},
			"PutSecretValue again": func() error {
				_, err := c.PutSecretValue(at, &secretsmanager.PutSecretValueInput{
					SecretId: id, SecretString: s("v"), ClientRequestToken: version,
				})
				return err
			},
			"UpdateSecret value": func() error {
				_, err := c.UpdateSecret(at, &secretsmanager.UpdateSecretInput{SecretId: id, SecretString: s("w")})
				return err
			},
			"UpdateSecret description": func() error {
				_, err := c.UpdateSecret(at, &secretsmanager.UpdateSecretInput{
					SecretId: id, Description: s("w"), KmsKeyId: s("alias/aws/secretsmanager"),
				})
				return err
			},
			"UpdateSecretVersionStage": func() error {
				_, err := c.UpdateSecretVersionStage(at, &secretsmanager.UpdateSecretVersionStageInput{
					SecretId: id, VersionStage: s("x"), MoveToVersionId: version,
				})
				return err
			},
			"TagResource": func() error {
				_, err := c.TagResource(at, &secretsmanager.TagResourceInput{
					SecretId: id, Tags: []types.Tag{{Key: s("a"), Value: s("b")}},
				})
				return err
			},
			"UntagResource": func() error {
				_, err := c.UntagResource(at, &secretsmanager.UntagResourceInput{SecretId: id, TagKeys: []string{"a"}})
				return err
			},
			"PutResourcePolicy": func() error {
				_, err := c.PutResourcePolicy(at, &secretsmanager.PutResourcePolicyInput{
					SecretId: id,
					ResourcePolicy: s(
						`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*"}]}`),
				})
				return err
			},
			"DeleteResourcePolicy": func() error {
				_, err := c.DeleteResourcePolicy(at, &secretsmanager.DeleteResourcePolicyInput{SecretId: id})
				return err
			},
			"DeleteSecret": func() error {
				_, err := c.DeleteSecret(at, &secretsmanager.DeleteSecretInput{SecretId: id})
				return err
			},
			"DeleteSecret forced": func() error {
				_, err := c.DeleteSecret(at, &secretsmanager.DeleteSecretInput{
					SecretId: id, ForceDeleteWithoutRecovery: aws.Bool(true),
				})
				return err
			},
			"RestoreSecret": func() error {
				_, err := c.RestoreSecret(at, &secretsmanager.RestoreSecretInput{SecretId: id})
				return err
			},
			"ReplicateSecretToRegions": func() error {
				_, err := c.ReplicateSecretToRegions(at, &secretsmanager.ReplicateSecretToRegionsInput{
					SecretId: id, AddReplicaRegions: replicaRegions(ap),
				})
				return err
			},
			"RemoveRegionsFromReplication": func() error {
				_, err := c.RemoveRegionsFromReplication(at, &secretsmanager.RemoveRegionsFromReplicationInput{
					SecretId: id, RemoveReplicaRegions: []string{us},
				})
				return err
			},
		} {
			t.Run(name, func(t *testing.T) {
				wantCode(t, write(), "InvalidRequestException",
					"Operation not permitted on a replica secret. Call must be made in primary secret's region.")
			})
		}
		if diff := cmp.Diff(before, contents(t, replica, *id)); diff != "" {
			t.Errorf("the replica changed: %s", diff)
		}
		_, err := replica.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: id, SecretString: s("w")})
		wantCode(t, err, "ResourceExistsException", "already exists")
		_, err = primary.StopReplicationToReplica(t.Context(), &secretsmanager.StopReplicationToReplicaInput{SecretId: id})
		wantCode(t, err, "InvalidRequestException", "isn't a replica")
	})

	t.Run("regions that can't be replicated to", func(t *testing.T) {
		create(t, primary, "nowhere", "v")
		for _, region := range []string{us, "mars-north-1"} {
			_, err := primary.ReplicateSecretToRegions(t.Context(), &secretsmanager.ReplicateSecretToRegionsInput{
				SecretId: s("nowhere"), AddReplicaRegions: replicaRegions(eu, region),
			})
			wantCode(t, err, "InvalidParameterException", "Invalid replica region.")
		}
		_, err := primary.ReplicateSecretToRegions(t.Context(), &secretsmanager.ReplicateSecretToRegionsInput{
			SecretId: s("nowhere"), AddReplicaRegions: replicaRegions("Not a region"),
		})
		wantCode(t, err, "ValidationException", "addReplicaRegions")
		_, err = primary.RemoveRegionsFromReplication(t.Context(), &secretsmanager.RemoveRegionsFromReplicationInput{
			SecretId: s("nowhere"), RemoveReplicaRegions: []string{eu},
		})
		wantCode(t, err, "InvalidParameterException", "not replicated")
		if got := describe(t, primary, "nowhere"); got.ReplicationStatus != nil || got.PrimaryRegion != nil {
			t.Error("a refused request changed the secret")
		}
	})

	t.Run("lists by primary region", func(t *testing.T) {
		replicated(t, replica, "listed/theirs", "v", us)
		replicated(t, primary, "listed/ours", "v", eu)
		create(t, primary, "listed/alone", "v")
		for region, want := range map[string]string{us: "listed/ours", eu: "listed/theirs"} {
			got := must(primary.ListSecrets(t.Context(), &secretsmanager.ListSecretsInput{Filters: []types.Filter{
				{Key: types.FilterNameStringTypeName, Values: []string{"listed/"}},
				{Key: types.FilterNameStringTypePrimaryRegion, Values: []string{region}},
			}}))(t)
			if len(got.SecretList) != 1 || *got.SecretList[0].Name != want || *got.SecretList[0].PrimaryRegion != region {
				t.Errorf("primary-region %s lists %v", region, got.SecretList)
			}
		}
	})

	t.Run("the key is the region's own", func(t *testing.T) {
		keys := r.Of(eu).Nodes[0].KMS()
		first, second := newKey(t, keys, kms.CreateKeyInput{}), newKey(t, keys, kms.CreateKeyInput{})
		_, err := primary.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
			Name: s("keyed"), SecretString: s("v"),
			AddReplicaRegions: []types.ReplicaRegionType{{Region: s(eu), KmsKeyId: first.Arn}},
		})
		noError(t, err)
		awaitStatus(t, primary, "keyed", eu, types.StatusTypeInSync)
		if got := describe(t, replica, "keyed"); *got.KmsKeyId != *first.Arn {
			t.Errorf("the replica is under %s", *got.KmsKeyId)
		}
		if got := describe(t, primary, "keyed"); got.KmsKeyId != nil || *got.ReplicationStatus[0].KmsKeyId != *first.Arn {
			t.Errorf("the primary tells %v", got.ReplicationStatus[0].KmsKeyId)
		}
		_, err = replica.UpdateSecret(t.Context(), &secretsmanager.UpdateSecretInput{
			SecretId: s("keyed"), KmsKeyId: second.KeyId,
		})
		noError(t, err)
		_, err = keys.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: first.KeyId})
		noError(t, err)
		awaitValue(t, replica, "keyed", "v") // it was wrapped anew
		put(t, primary, secretsmanager.PutSecretValueInput{SecretId: s("keyed"), SecretString: s("w")})
		awaitValue(t, replica, "keyed", "w")
		if got := describe(t, replica, "keyed"); *got.KmsKeyId != *second.Arn {
			t.Errorf("a change at the primary put the replica back under %s", *got.KmsKeyId)
		}

		t.Log("a disabled key")
		_, err = keys.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: second.KeyId})
		noError(t, err)
		put(t, primary, secretsmanager.PutSecretValueInput{SecretId: s("keyed"), SecretString: s("x")})
		if message := awaitStatus(t, primary, "keyed", eu, types.StatusTypeFailed); !strings.Contains(message, "KMS key") {
			t.Errorf("the status tells %q", message)
		}
		_, err = replica.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: s("keyed")})
		wantCode(t, err, "DecryptionFailure", "")
		_, err = keys.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: second.KeyId})
		noError(t, err)
		awaitStatus(t, primary, "keyed", eu, types.StatusTypeInSync)
		awaitValue(t, replica, "keyed", "x")

		t.Log("a key that is not there")
		_, err = primary.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
			Name: s("keyless"), SecretString: s("v"),
			AddReplicaRegions: []types.ReplicaRegionType{{Region: s(eu), KmsKeyId: s("alias/later")}},
		})
		noError(t, err)
		if message := awaitStatus(t, primary, "keyless", eu, types.StatusTypeFailed); !strings.Contains(message,
			"alias/later") {
			t.Errorf("the status tells %q", message)
		}
		_, err = keys.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: s("alias/later"), TargetKeyId: second.KeyId})
		noError(t, err)
		awaitStatus(t, primary, "keyless", eu, types.StatusTypeInSync)
	})

	t.Run("a name that is taken", func(t *testing.T) {
		own := create(t, replica, "taken", "mine")
		put(t, replica, secretsmanager.PutSecretValueInput{SecretId: s("taken"), SecretString: s("mine too")})
		before := contents(t, replica, "taken")
		_, err := primary.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
			Name: s("taken"), SecretString: s("theirs"), AddReplicaRegions: replicaRegions(eu),
		})
		noError(t, err)
		if message := awaitStatus(t, primary, "taken", eu, types.StatusTypeFailed); !strings.HasPrefix(message,
			"Secret with this name already exists in this region") {
			t.Errorf("the status tells %q", message)
		}
		if diff := cmp.Diff(before, contents(t, replica, "taken")); diff != "" {
			t.Errorf("the local secret changed: %s", diff)
		}
		_, err = primary.ReplicateSecretToRegions(t.Context(), &secretsmanager.ReplicateSecretToRegionsInput{
			SecretId: s("taken"), AddReplicaRegions: replicaRegions(eu), ForceOverwriteReplicaSecret: true,
		})
		noError(t, err)
		awaitStatus(t, primary, "taken", eu, types.StatusTypeInSync)
		awaitValue(t, replica, "taken", "theirs")
		_, err = replica.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: own.ARN})
		wantCode(t, err, "ResourceNotFoundException", "")

		list := operate(t, r.Of(eu).Nodes[0], "displaced", "list")
		id := strings.Fields(lineWith(list, "taken"))[0]
		if got := must(replica.ListSecrets(t.Context(),
			&secretsmanager.ListSecretsInput{
				Filters: []types.Filter{{Key: types.FilterNameStringTypeAll, Values: []string{"taken"}}},
			}))(t); len(got.SecretList) != 1 {
			t.Errorf("the displaced secret is listed: %v", got.SecretList)
		}
		if out, err := r.Of(eu).Nodes[0].Operate(t.Context(), "displaced", "restore", id); err == nil ||
			!strings.Contains(out, "already exists") {
			t.Errorf("restored over the replica: %s", out)
		}
		operate(t, r.Of(eu).Nodes[0], "displaced", "restore", id, "--name", "taken/before")
		if got := get(t, replica, secretsmanager.GetSecretValueInput{
			SecretId: s("taken/before"), VersionStage: s("AWSPREVIOUS"),
		}); *got.SecretString != "mine" {
			t.Error("the copy has another previous value")
		}
		_, err = primary.RemoveRegionsFromReplication(t.Context(), &secretsmanager.RemoveRegionsFromReplicationInput{
			SecretId: s("taken"), RemoveReplicaRegions: []string{eu},
		})
		noError(t, err)
		awaitGone(t, replica, "taken")
		operate(t, r.Of(eu).Nodes[0], "displaced", "restore", id)
		if diff := cmp.Diff(before["versions"], contents(t, replica, "taken")["versions"]); diff != "" {
			t.Errorf("what was restored differs: %s", diff)
		}
		if got := describe(t, replica, "taken"); *got.ARN != *own.ARN || got.DeletedDate != nil {
			t.Errorf("it was restored as %s", *got.ARN)
		}
	})

	t.Run("overwriting what must not be", func(t *testing.T) {
		force := func(name string) string {
			_, err := primary.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
				Name: &name, SecretString: s("v"), AddReplicaRegions: replicaRegions(eu), ForceOverwriteReplicaSecret: true,
			})
			noError(t, err)
			return awaitStatus(t, primary, name, eu, types.StatusTypeFailed)
		}
		replicated(t, clients[ap], "of-another", "v", eu)
		if message := force("of-another"); !strings.Contains(message, ap) {
			t.Errorf("the status tells %q", message)
		}
		awaitValue(t, replica, "of-another", "v")
		replicated(t, replica, "with-replicas", "v", ap)
		if message := force("with-replicas"); !strings.Contains(message, "replicas of its own") {
			t.Errorf("the status tells %q", message)
		}
	})

	t.Run("deleting", func(t *testing.T) {
		replicated(t, primary, "deleted", "v", eu, ap)
		for _, in := range []*secretsmanager.DeleteSecretInput{
			{SecretId: s("deleted")}, {SecretId: s("deleted"), ForceDeleteWithoutRecovery: aws.Bool(true)},
		} {
			_, err := primary.DeleteSecret(t.Context(), in)
			wantCode(t, err, "InvalidRequestException", "RemoveRegionsFromReplication")
		}
		out, err := primary.RemoveRegionsFromReplication(t.Context(), &secretsmanager.RemoveRegionsFromReplicationInput{
			SecretId: s("deleted"), RemoveReplicaRegions: []string{eu},
		})
		noError(t, err)
		if len(out.ReplicationStatus) != 1 || *out.ReplicationStatus[0].Region != ap {
			t.Errorf("the answer has %v", out.ReplicationStatus)
		}
		awaitGone(t, replica, "deleted")
		_, err = primary.RemoveRegionsFromReplication(t.Context(), &secretsmanager.RemoveRegionsFromReplicationInput{
			SecretId: s("deleted"), RemoveReplicaRegions: []string{ap},
		})
		noError(t, err)
		_, err = primary.DeleteSecret(t.Context(), &secretsmanager.DeleteSecretInput{SecretId: s("deleted")})
		noError(t, err)
		_, err = primary.ReplicateSecretToRegions(t.Context(), &secretsmanager.ReplicateSecretToRegionsInput{
			SecretId: s("deleted"), AddReplicaRegions: replicaRegions(eu),
		})
		wantCode(t, err, "InvalidRequestException", "marked for deletion")
		_, err = primary.RestoreSecret(t.Context(), &secretsmanager.RestoreSecretInput{SecretId: s("deleted")})
		noError(t, err)
		_, err = primary.ReplicateSecretToRegions(t.Context(), &secretsmanager.ReplicateSecretToRegionsInput{
			SecretId: s("deleted"), AddReplicaRegions: replicaRegions(eu),
		})
		noError(t, err)
		awaitValue(t, replica, "deleted", "v")
	})

	t.Run("promoting", func(t *testing.T) {
		replicated(t, primary, "promoted", "v", eu)
		out, err := replica.StopReplicationToReplica(t.Context(), &secretsmanager.StopReplicationToReplicaInput{
			SecretId: s("promoted"),
		})
		noError(t, err)
		if got := describe(t, replica, "promoted"); *got.ARN != *out.ARN || got.PrimaryRegion != nil {
			t.Errorf("the promoted secret's primary is in %v", got.PrimaryRegion)
		}
		put(t, replica, secretsmanager.PutSecretValueInput{SecretId: s("promoted"), SecretString: s("ours")})
		put(t, primary, secretsmanager.PutSecretValueInput{SecretId: s("promoted"), SecretString: s("theirs")})
		within(t, 30*time.Second, "the primary to drop the link", func() error {
			if got := describe(t, primary, "promoted"); got.ReplicationStatus != nil || got.PrimaryRegion != nil {
				return fmt.Errorf("it has %v", got.ReplicationStatus)
			}
			return nil
		})
		if got := get(t, replica, secretsmanager.GetSecretValueInput{SecretId: s("promoted")}); *got.SecretString != "ours" {
			t.Error("the old primary changed a promoted secret")
		}
		_, err = primary.ReplicateSecretToRegions(t.Context(), &secretsmanager.ReplicateSecretToRegionsInput{
			SecretId: s("promoted"), AddReplicaRegions: replicaRegions(eu),
		})
		noError(t, err)
		awaitStatus(t, primary, "promoted", eu, types.StatusTypeFailed)
		_, err = replica.DeleteSecret(t.Context(), &secretsmanager.DeleteSecretInput{
			SecretId: s("promoted"), ForceDeleteWithoutRecovery: aws.Bool(true),
		})
		noError(t, err)
		awaitStatus(t, primary, "promoted", eu, types.StatusTypeInSync)
		awaitValue(t, replica, "promoted", "theirs")
	})

	t.Run("last access", func(t *testing.T) {
		replicated(t, primary, "accessed", "v", eu)
		get(t, replica, secretsmanager.GetSecretValueInput{SecretId: s("accessed")})
		within(t, 90*time.Second, "the primary to know", func() error {
			if describe(t, primary, "accessed").ReplicationStatus[0].LastAccessedDate == nil {
				return errors.New("it does not")
			}
			return nil
		})
	})

	t.Run("a change can be followed", func(t *testing.T) {
		replicated(t, primary, "followed", "v", eu)
		id := ""
		put(t, primary, secretsmanager.PutSecretValueInput{
			SecretId: s("followed"), SecretString: s("w"), ClientRequestToken: s(uuid.NewString()),
		})
		awaitStatus(t, primary, "followed", eu, types.StatusTypeInSync)
		within(t, 10*time.Second, "the log", func() error {
			id = logValue(t, r.Of(us).Nodes[0], `"operation":"PutSecretValue"`, "request_id")
			for n, msg := range map[*testcluster.Node]string{
				r.Of(us).Nodes[0]: `"msg":"replicated"`, r.Of(eu).Nodes[0]: `"msg":"received"`,
			} {
				if !logHas(t, n, msg, id) {
					return fmt.Errorf("%s has no line with %s and %s", n.Log, msg, id)
				}
			}
			return nil
		})
	})

	t.Run("a region that can't be reached", func(t *testing.T) {
		replicated(t, primary, "unreached", "v", eu)
		r.Of(eu).Nodes[0].Kill()
		put(t, primary, secretsmanager.PutSecretValueInput{SecretId: s("unreached"), SecretString: s("w")})
		message := awaitStatus(t, primary, "unreached", eu, types.StatusTypeFailed)
		if !strings.Contains(message, "since 20") || !strings.Contains(message, "don't answer") {
			t.Errorf("the status tells %q", message)
		}
		if status := operate(t, r.Of(us).Nodes[0], "regions", "status"); !strings.Contains(lineWith(status, eu),
			"down since") {
			t.Errorf("regions status tells:\n%s", status)
		}
		noError(t, r.Of(eu).Nodes[0].Start())
		noError(t, r.Of(eu).Nodes[0].AwaitReady(ctx(t, time.Minute)))
		awaitStatus(t, primary, "unreached", eu, types.StatusTypeInSync)
		awaitValue(t, replica, "unreached", "w")
	})

	for _, c := range r.Clusters {
		if repairs, err := c.Nodes[0].Metric(fmt.Sprintf("coffer_replication_repairs_total{region=%q}", eu)); err == nil &&
			repairs != "0" {
			t.Errorf("%s repaired %s replicas", c.Region, repairs)
		}
	}
}

func awaitGone(t *testing.T, c *client, id string) {
	t.Helper()
	within(t, 30*time.Second, id+" to be gone", func() error {
		_, err := c.DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: &id})
		var none *types.ResourceNotFoundException
		if !errors.As(err, &none) {
			return fmt.Errorf("it is there: %w", err)
		}
		return nil
	})
}

func lineWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return line
		}
	}
	return " "
}

// logValue is a field of the last line of a node's log that contains a text.
func logValue(t *testing.T, n *testcluster.Node, text, field string) string {
	t.Helper()
	value := ""
	for line := range bytes.Lines(must(os.ReadFile(n.Log))(t)) {
		var fields map[string]any
		if bytes.Contains(line, []byte(text)) && json.Unmarshal(line, &fields) == nil {
			value, _ = fields[field].(string)
		}
	}
	return value
}

func logHas(t *testing.T, n *testcluster.Node, texts ...string) bool {
	t.Helper()
next:
	for line := range bytes.Lines(must(os.ReadFile(n.Log))(t)) {
		for _, text := range texts {
			if !bytes.Contains(line, []byte(text)) {
				continue next
			}
		}
		return true
	}
	return false
}
