package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

type client = secretsmanager.Client

// code is the AWS error code and message of err.
func code(err error) (string, string) {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode(), api.ErrorMessage()
	}
	return fmt.Sprintf("%v", err), ""
}

func wantCode(t *testing.T, err error, want, message string) {
	t.Helper()
	if got, text := code(err); got != want || !strings.Contains(text, message) {
		t.Errorf("got %s: %s\nwant %s: %s", got, text, want, message)
	}
}

func token() *string { return aws.String(uuid.NewString()) }

func create(t *testing.T, c *client, name, value string) *secretsmanager.CreateSecretOutput {
	t.Helper()
	return must(c.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: &name, SecretString: &value}))(t)
}

func get(t *testing.T, c *client, in secretsmanager.GetSecretValueInput) *secretsmanager.GetSecretValueOutput {
	t.Helper()
	return must(c.GetSecretValue(t.Context(), &in))(t)
}

func put(t *testing.T, c *client, in secretsmanager.PutSecretValueInput) *secretsmanager.PutSecretValueOutput {
	t.Helper()
	return must(c.PutSecretValue(t.Context(), &in))(t)
}

// TestAPI drives every operation with the SDK through a load balancer before three nodes, so that each
// call may meet another node than the one before: what one answered, all must see.
func TestAPI(t *testing.T) {
	cluster := startCluster(t, 3)
	c := cluster.Balanced()
	for name, test := range map[string]func(*testing.T, *client){
		"create and get":          testCreateGet,
		"create errors":           testCreateErrors,
		"names and ARNs":          testNames,
		"versions and labels":     testVersions,
		"idempotency":             testIdempotency,
		"update":                  testUpdate,
		"version stages":          testVersionStages,
		"describe":                testDescribe,
		"deletion":                testDeletion,
		"tags":                    testTags,
		"policies":                testPolicies,
		"lists":                   testLists,
		"version lists":           testVersionLists,
		"batches":                 testBatch,
		"passwords":               testPasswords,
		"limits":                  testLimits,
		"not here":                testNotHere,
		"last accessed":           testLastAccessed,
		"concurrent label change": testConcurrentLabels,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t, c) })
	}
}

func testCreateGet(t *testing.T, c *client) {
	tok := token()
	out := must(c.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
		Name: aws.String("cg/text"), SecretString: aws.String("päss\u0000\n\"<>&\u2028"), ClientRequestToken: tok,
		KmsKeyId: aws.String("alias/aws/secretsmanager"),
	}))(t)
	if !strings.HasPrefix(*out.ARN, "arn:aws:secretsmanager:us-east-1:123456789012:secret:cg/text-") ||
		*out.VersionId != *tok || *out.Name != "cg/text" {
		t.Errorf("created %+v", out)
	}
	got := get(t, c, secretsmanager.GetSecretValueInput{SecretId: out.ARN})
	if *got.SecretString != "päss\u0000\n\"<>&\u2028" || got.SecretBinary != nil || *got.VersionId != *tok ||
		!slices.Equal(got.VersionStages, []string{"AWSCURRENT"}) || time.Since(*got.CreatedDate) > time.Hour {
		t.Errorf("got %+v", got)
	}
	binary := []byte{0, 255, 1, 254}
	_, err := c.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
		Name: aws.String("cg/binary"), SecretBinary: binary,
	})
	noError(t, err)
	if got := get(t, c, secretsmanager.GetSecretValueInput{
		SecretId: aws.String("cg/binary"),
	}); !slices.Equal(got.SecretBinary, binary) || got.SecretString != nil {
		t.Errorf("got %+v", got)
	}
	empty := must(c.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: aws.String("cg/none")}))(t)
	if empty.VersionId != nil {
		t.Errorf("a secret without a value has version %s", *empty.VersionId)
	}
	_, err = c.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("cg/none")})
	wantCode(t, err, "ResourceNotFoundException",
		"Secrets Manager can't find the specified secret value for staging label: AWSCURRENT")
	first := put(t, c, secretsmanager.PutSecretValueInput{
		SecretId: aws.String("cg/none"), SecretString: aws.String("v"), VersionStages: []string{"mine"},
	})
	if !slices.Equal(first.VersionStages, []string{"AWSCURRENT", "mine"}) {
		t.Errorf("the first value has labels %v", first.VersionStages)
	}
}

func testCreateErrors(t *testing.T, c *client) {
	create(t, c, "ce/taken", "v")
	_, err := c.DeleteSecret(t.Context(), &secretsmanager.DeleteSecretInput{SecretId: create(t, c, "ce/deleted", "v").ARN})
	noError(t, err)
	s := aws.String
	for name, test := range map[string]struct {
		in            secretsmanager.CreateSecretInput
		code, message string
	}{
		"taken": {
			secretsmanager.CreateSecretInput{Name: s("ce/taken"), SecretString: s("w")}, "ResourceExistsException",
			"The operation failed because the secret ce/taken already exists.",
		},
		"scheduled": {
			secretsmanager.CreateSecretInput{Name: s("ce/deleted")}, "InvalidRequestException",
			"You can't create this secret because a secret with this name is already scheduled for deletion.",
		},
		"bad name": {
			secretsmanager.CreateSecretInput{Name: s("ce/a b")}, "ValidationException",
			"Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!",
		},
		"long name": {
			secretsmanager.CreateSecretInput{Name: s(strings.Repeat("n", 513))}, "ValidationException",
			"at 'name' failed to satisfy constraint: Member must have length less than or equal to 512",
		},
		"two values": {
			secretsmanager.CreateSecretInput{Name: s("ce/2"), SecretString: s("a"), SecretBinary: []byte("b")},
			"InvalidParameterException", "both",
		},
		"short token": {
			secretsmanager.CreateSecretInput{Name: s("ce/t"), SecretString: s("a"), ClientRequestToken: s("short")},
			"ValidationException", "greater than or equal to 32",
		},
		"other key": {
			secretsmanager.CreateSecretInput{Name: s("ce/k"), SecretString: s("a"), KmsKeyId: s("alias/mine")},
			"EncryptionFailure", "KMS key",
		},
		"replicas": {
			secretsmanager.CreateSecretInput{
				Name: s("ce/r"), AddReplicaRegions: []types.ReplicaRegionType{{Region: s("eu-west-1")}},
			}, "InvalidParameterException", "Invalid replica region.",
		},
		"type": {
			secretsmanager.CreateSecretInput{Name: s("ce/r"), Type: s("Salesforce")}, "InvalidParameterException", "Type",
		},
		"aws tag": {
			secretsmanager.CreateSecretInput{Name: s("ce/tag"), Tags: []types.Tag{{Key: s("aws:x"), Value: s("y")}}},
			"InvalidParameterException", "aws:",
		},
		"same tag": {
			secretsmanager.CreateSecretInput{Name: s("ce/tag"), Tags: []types.Tag{{Key: s("x"), Value: s("y")}, {Key: s("x")}}},
			"InvalidParameterException", "twice",
		},
		"empty value": {
			secretsmanager.CreateSecretInput{Name: s("ce/e"), SecretString: s("")}, "ValidationException", "secretString",
		},
	} {
		_, err := c.CreateSecret(t.Context(), &test.in)
		if got, message := code(err); got != test.code || !strings.Contains(message, test.message) {
			t.Errorf("%s: got %s: %s", name, got, message)
		}
	}
}

func testNames(t *testing.T, c *client) {
	out := create(t, c, "na/me", "v")
	partial := (*out.ARN)[:len(*out.ARN)-7]
	for _, id := range []string{"na/me", *out.ARN, partial} {
		if got := get(t, c, secretsmanager.GetSecretValueInput{SecretId: &id}); *got.ARN != *out.ARN {
			t.Errorf("%s found %s", id, *got.ARN)
		}
	}
	create(t, c, "na/me-abcdef", "exact")
	exact := "arn:aws:secretsmanager:us-east-1:123456789012:secret:na/me-abcdef"
	if got := get(t, c, secretsmanager.GetSecretValueInput{SecretId: &exact}); *got.SecretString != "exact" {
		t.Errorf("an exact name did not win: %s", *got.Name)
	}
	for id, want := range map[string]string{
		"na/other": "ResourceNotFoundException",
		strings.Replace(*out.ARN, "us-east-1", "eu-west-1", 1):       "ResourceNotFoundException",
		strings.Replace(*out.ARN, "123456789012", "210987654321", 1): "ResourceNotFoundException",
		"na/m\u00e9": "ValidationException",
		"arn:aws:s3:us-east-1:123456789012:secret:x": "ValidationException",
	} {
		_, err := c.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: &id})
		wantCode(t, err, want, "")
	}
	_, err := c.DeleteSecret(t.Context(), &secretsmanager.DeleteSecretInput{
		SecretId: out.ARN, ForceDeleteWithoutRecovery: aws.Bool(true),
	})
	noError(t, err)
	again := create(t, c, "na/me", "w")
	if *again.ARN == *out.ARN {
		t.Error("a secret created anew has the old ARN")
	}
	_, err = c.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: out.ARN})
	wantCode(t, err, "ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
}

func testVersions(t *testing.T, c *client) {
	id := aws.String("ve/rsions")
	v1 := create(t, c, *id, "1").VersionId
	v2 := put(t, c, secretsmanager.PutSecretValueInput{SecretId: id, SecretString: aws.String("2")}).VersionId
	v3 := put(t, c, secretsmanager.PutSecretValueInput{
		SecretId: id, SecretString: aws.String("3"), VersionStages: []string{"AWSPENDING", "mine"},
	})
	if !slices.Equal(v3.VersionStages, []string{"AWSPENDING", "mine"}) {
		t.Errorf("labels %v", v3.VersionStages)
	}
	for label, want := range map[string]string{"AWSCURRENT": "2", "AWSPREVIOUS": "1", "AWSPENDING": "3", "mine": "3"} {
		if got := get(t, c, secretsmanager.GetSecretValueInput{
			SecretId: id, VersionStage: &label,
		}); *got.SecretString != want {
			t.Errorf("%s is on %s, want %s", label, *got.SecretString, want)
		}
	}
	if got := get(t, c, secretsmanager.GetSecretValueInput{SecretId: id, VersionId: v1}); *got.SecretString != "1" {
		t.Errorf("by id: %s", *got.SecretString)
	}
	if got := get(t, c, secretsmanager.GetSecretValueInput{
		SecretId: id, VersionId: v2, VersionStage: aws.String("AWSCURRENT"),
	}); *got.SecretString != "2" {
		t.Errorf("by id and label: %s", *got.SecretString)
	}
	_, err := c.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{
		SecretId: id, VersionId: v1, VersionStage: aws.String("AWSCURRENT"),
	})
	wantCode(t, err, "InvalidRequestException",
		"You provided a VersionStage that is not associated to the provided VersionId.")
	missing := token()
	_, err = c.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: id, VersionId: missing})
	wantCode(t, err, "ResourceNotFoundException",
		"Secrets Manager can't find the specified secret value for VersionId: "+*missing)
	_, err = c.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{
		SecretId: id, VersionStage: aws.String("nope"),
	})
	wantCode(t, err, "ResourceNotFoundException",
		"Secrets Manager can't find the specified secret value for staging label: nope")
	_, err = c.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{SecretId: id})
	wantCode(t, err, "InvalidRequestException", "SecretString or SecretBinary")
	_, err = c.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
		SecretId: id, SecretString: aws.String("x"), RotationToken: token(),
	})
	wantCode(t, err, "InvalidParameterException", "RotationToken")
}

func testIdempotency(t *testing.T, c *client) {
	id, tok := aws.String("id/em"), token()
	first := must(c.CreateSecret(t.Context(),
		&secretsmanager.CreateSecretInput{Name: id, SecretString: aws.String("a"), ClientRequestToken: tok}))(t)
	again := must(c.CreateSecret(t.Context(),
		&secretsmanager.CreateSecretInput{Name: id, SecretString: aws.String("a"), ClientRequestToken: tok}))(t)
	if *first.ARN != *again.ARN || *again.VersionId != *tok {
		t.Errorf("the same request again answered %v, at first %v", again, first)
	}
	put2 := secretsmanager.PutSecretValueInput{SecretId: id, SecretString: aws.String("b"), ClientRequestToken: token()}
	one, two := put(t, c, put2), put(t, c, put2)
	if diff := cmp.Diff(one.VersionStages, two.VersionStages); diff != "" {
		t.Error(diff)
	}
	for _, in := range []secretsmanager.PutSecretValueInput{
		{SecretId: id, SecretString: aws.String("other"), ClientRequestToken: put2.ClientRequestToken},
		{SecretId: id, SecretBinary: []byte("b"), ClientRequestToken: put2.ClientRequestToken},
	} {
		_, err := c.PutSecretValue(t.Context(), &in)
		wantCode(t, err, "ResourceExistsException",
			"You can't use ClientRequestToken "+*put2.ClientRequestToken+
				" because that value is already in use for a version of secret "+*first.ARN+".")
	}
	_, err := c.UpdateSecret(t.Context(), &secretsmanager.UpdateSecretInput{
		SecretId: id, SecretString: aws.String("other"), ClientRequestToken: tok,
	})
	wantCode(t, err, "ResourceExistsException", "already in use")
	if got := get(t, c, secretsmanager.GetSecretValueInput{SecretId: id}); *got.SecretString != "b" {
		t.Errorf("refused requests changed the value to %q", *got.SecretString)
	}
}

func testUpdate(t *testing.T, c *client) {
	id := aws.String("up/date")
	create(t, c, *id, "1")
	out := must(c.UpdateSecret(t.Context(),
		&secretsmanager.UpdateSecretInput{SecretId: id, Description: aws.String("words")}))(t)
	if out.VersionId != nil {
		t.Error("an update without a value made a version")
	}
	out = must(c.UpdateSecret(t.Context(), &secretsmanager.UpdateSecretInput{SecretId: id, SecretBinary: []byte("2")}))(t)
	got := get(t, c, secretsmanager.GetSecretValueInput{SecretId: id})
	if *got.VersionId != *out.VersionId || string(got.SecretBinary) != "2" {
		t.Errorf("got %+v", got)
	}
	if d := must(c.DescribeSecret(t.Context(),
		&secretsmanager.DescribeSecretInput{SecretId: id}))(t); *d.Description != "words" {
		t.Errorf("description %q", *d.Description)
	}
	_, err := c.UpdateSecret(t.Context(), &secretsmanager.UpdateSecretInput{
		SecretId: id, KmsKeyId: aws.String("alias/none"),
	})
	wantCode(t, err, "EncryptionFailure", "")
}

func testVersionStages(t *testing.T, c *client) {
	id := aws.String("vs/x")
	v1 := create(t, c, *id, "1").VersionId
	v2 := put(t, c, secretsmanager.PutSecretValueInput{
		SecretId: id, SecretString: aws.String("2"), VersionStages: []string{"AWSPENDING"},
	}).VersionId
	move := func(label string, from, to *string) error {
		_, err := c.UpdateSecretVersionStage(t.Context(), &secretsmanager.UpdateSecretVersionStageInput{
			SecretId: id, VersionStage: &label, RemoveFromVersionId: from, MoveToVersionId: to,
		})
		return err
	}
	wantCode(t, move("AWSCURRENT", nil, v2), "InvalidParameterException", "RemoveFromVersionId can't be empty")
	wantCode(t, move("AWSCURRENT", v2, v2), "InvalidParameterException", "")
	wantCode(t, move("AWSCURRENT", v1, nil), "InvalidParameterException", "can't remove")
	wantCode(t, move("x", nil, nil), "InvalidParameterException", "")
	wantCode(t, move("x", nil, token()), "ResourceNotFoundException", "VersionId")
	noError(t, move("AWSCURRENT", v1, v2))
	d := must(c.DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: id}))(t)
	if diff := cmp.Diff(map[string][]string{*v1: {"AWSPREVIOUS"}, *v2: {"AWSCURRENT", "AWSPENDING"}},
		d.VersionIdsToStages); diff != "" {
		t.Error(diff)
	}
	noError(t, move("mine", nil, v1))
	noError(t, move("mine", v1, v2))
	noError(t, move("mine", v2, nil))
	noError(t, move("AWSPENDING", v2, nil))
	d = must(c.DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: id}))(t)
	if diff := cmp.Diff(map[string][]string{*v1: {"AWSPREVIOUS"}, *v2: {"AWSCURRENT"}}, d.VersionIdsToStages); diff != "" {
		t.Error(diff)
	}
	for i := range 19 {
		noError(t, move(fmt.Sprint("label", i), nil, v2))
	}
	wantCode(t, move("onemore", nil, v2), "LimitExceededException", "20")
}

func testDescribe(t *testing.T, c *client) {
	_, err := c.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: aws.String("de/bare")})
	noError(t, err)
	d := must(c.DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: aws.String("de/bare")}))(t)
	if d.Description != nil || d.KmsKeyId != nil || d.Tags != nil || d.VersionIdsToStages != nil || d.DeletedDate != nil ||
		d.LastAccessedDate != nil || d.ReplicationStatus != nil || d.RotationEnabled != nil || d.CreatedDate == nil ||
		d.LastChangedDate == nil {
		t.Errorf("members that were never set are there: %+v", d)
	}
}

func testDeletion(t *testing.T, c *client) {
	id := aws.String("dl/x")
	out := create(t, c, *id, "v")
	s := t.Context()
	for name, in := range map[string]secretsmanager.DeleteSecretInput{
		"6 days":  {SecretId: id, RecoveryWindowInDays: aws.Int64(6)},
		"31 days": {SecretId: id, RecoveryWindowInDays: aws.Int64(31)},
		"both":    {SecretId: id, RecoveryWindowInDays: aws.Int64(7), ForceDeleteWithoutRecovery: aws.Bool(true)},
	} {
		if _, err := c.DeleteSecret(s, &in); err == nil {
			t.Errorf("%s: no error", name)
		} else {
			wantCode(t, err, "InvalidParameterException", "")
		}
	}
	del := must(c.DeleteSecret(s, &secretsmanager.DeleteSecretInput{SecretId: id, RecoveryWindowInDays: aws.Int64(7)}))(t)
	if left := time.Until(*del.DeletionDate); left < 167*time.Hour || left > 169*time.Hour {
		t.Errorf("deletion in %v", left)
	}
	marked := "You can't perform this operation on the secret because it was marked for deletion."
	_, err := c.GetSecretValue(s, &secretsmanager.GetSecretValueInput{SecretId: id})
	wantCode(t, err, "InvalidRequestException", marked)
	_, err = c.PutSecretValue(s, &secretsmanager.PutSecretValueInput{SecretId: id, SecretString: aws.String("w")})
	wantCode(t, err, "InvalidRequestException", marked)
	_, err = c.UpdateSecret(s, &secretsmanager.UpdateSecretInput{SecretId: id, Description: aws.String("w")})
	wantCode(t, err, "InvalidRequestException", marked)
	_, err = c.TagResource(s, &secretsmanager.TagResourceInput{SecretId: id, Tags: []types.Tag{{Key: aws.String("k")}}})
	wantCode(t, err, "InvalidRequestException", marked)
	_, err = c.DeleteSecret(s, &secretsmanager.DeleteSecretInput{SecretId: id})
	wantCode(t, err, "InvalidRequestException", marked)
	if d := must(c.DescribeSecret(s, &secretsmanager.DescribeSecretInput{SecretId: id}))(t); d.DeletedDate == nil {
		t.Error("no DeletedDate")
	}
	_, err = c.RestoreSecret(s, &secretsmanager.RestoreSecretInput{SecretId: id})
	noError(t, err)
	_, err = c.RestoreSecret(s, &secretsmanager.RestoreSecretInput{SecretId: id})
	noError(t, err)
	if got := get(t, c, secretsmanager.GetSecretValueInput{SecretId: id}); *got.SecretString != "v" {
		t.Error("the value is another after restoring")
	}
	_, err = c.DeleteSecret(s, &secretsmanager.DeleteSecretInput{SecretId: id})
	noError(t, err)
	_, err = c.DeleteSecret(s, &secretsmanager.DeleteSecretInput{
		SecretId: out.ARN, ForceDeleteWithoutRecovery: aws.Bool(true),
	})
	noError(t, err)
	_, err = c.DescribeSecret(s, &secretsmanager.DescribeSecretInput{SecretId: id})
	wantCode(t, err, "ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
	_, err = c.DeleteSecret(s, &secretsmanager.DeleteSecretInput{
		SecretId: aws.String("dl/never"), ForceDeleteWithoutRecovery: aws.Bool(true),
	})
	noError(t, err)
	_, err = c.DeleteSecret(s, &secretsmanager.DeleteSecretInput{SecretId: aws.String("dl/never")})
	wantCode(t, err, "ResourceNotFoundException", "")
}

func testTags(t *testing.T, c *client) {
	id := create(t, c, "ta/gs", "v").ARN
	tag := func(tags ...string) error {
		in := &secretsmanager.TagResourceInput{SecretId: id}
		for _, k := range tags {
			in.Tags = append(in.Tags, types.Tag{Key: aws.String(k), Value: aws.String("v" + k)})
		}
		_, err := c.TagResource(t.Context(), in)
		return err
	}
	keys := func() []string {
		d := must(c.DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: id}))(t)
		if d.Tags == nil {
			return nil
		}
		keys := []string{}
		for _, tag := range d.Tags {
			keys = append(keys, *tag.Key)
		}
		return keys
	}
	noError(t, tag("a", "B"))
	noError(t, tag("b", "a"))
	if diff := cmp.Diff([]string{"a", "B", "b"}, keys()); diff != "" {
		t.Error(diff)
	}
	_, err := c.UntagResource(t.Context(), &secretsmanager.UntagResourceInput{
		SecretId: id, TagKeys: []string{"a", "b", "B", "none"},
	})
	noError(t, err)
	if got := keys(); got == nil || len(got) != 0 {
		t.Errorf("after the last tag was removed Tags is %v, want an empty list", got)
	}
	var fifty []string
	for i := range 50 {
		fifty = append(fifty, fmt.Sprint("k", i))
	}
	noError(t, tag(fifty...))
	wantCode(t, tag("another"), "InvalidParameterException", "50")
	wantCode(t, tag("AWS:mine"), "InvalidParameterException", "aws:")
	if got := keys(); len(got) != 50 {
		t.Errorf("%d tags after a refused request", len(got))
	}
}

func testPolicies(t *testing.T, c *client) {
	id := create(t, c, "po/licy", "v").ARN
	policy := `{"Version":"2012-10-17","Statement":[{"Sid":"a","Effect":"Allow",` +
		`"Principal":{"AWS":"arn:aws:iam::123456789012:root"},"Action":"secretsmanager:GetSecretValue","Resource":"*",` +
		`"Condition":{"StringEquals":{"aws:x":["y"]}}}]}`
	if out := must(c.GetResourcePolicy(t.Context(),
		&secretsmanager.GetResourcePolicyInput{SecretId: id}))(t); out.ResourcePolicy != nil {
		t.Error("a policy that was never put")
	}
	_, err := c.PutResourcePolicy(t.Context(), &secretsmanager.PutResourcePolicyInput{
		SecretId: id, ResourcePolicy: &policy,
	})
	noError(t, err)
	if out := must(c.GetResourcePolicy(t.Context(),
		&secretsmanager.GetResourcePolicyInput{SecretId: id}))(t); *out.ResourcePolicy != policy {
		t.Errorf("got %s", *out.ResourcePolicy)
	}
	public := `{"Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}}`
	_, err = c.PutResourcePolicy(t.Context(), &secretsmanager.PutResourcePolicyInput{
		SecretId: id, ResourcePolicy: &public, BlockPublicPolicy: aws.Bool(true),
	})
	wantCode(t, err, "PublicPolicyException", "")
	for _, bad := range []string{
		`{`, `[]`, `{}`, `{"Statement":[]}`, strings.Replace(policy, "Effect", "effect", 1),
		strings.Replace(policy, "Allow", "Perhaps", 1),
		strings.Replace(policy, `"Action":"secretsmanager:GetSecretValue",`, "", 1),
		strings.Replace(policy, "2012", "2013", 1),
		strings.Replace(policy, `"Sid":"a",`, `"Sid":"a","Sid":"b",`, 1), policy + "x",
	} {
		_, err = c.PutResourcePolicy(t.Context(), &secretsmanager.PutResourcePolicyInput{SecretId: id, ResourcePolicy: &bad})
		wantCode(t, err, "MalformedPolicyDocumentException", "syntax error")
	}
	_, err = c.DeleteResourcePolicy(t.Context(), &secretsmanager.DeleteResourcePolicyInput{SecretId: id})
	noError(t, err)
	if out := must(c.GetResourcePolicy(t.Context(),
		&secretsmanager.GetResourcePolicyInput{SecretId: id}))(t); out.ResourcePolicy != nil {
		t.Error("the policy is still there")
	}
}

func testLists(t *testing.T, c *client) {
	const n = 23
	s := t.Context()
	for i := range n {
		in := &secretsmanager.CreateSecretInput{
			Name: aws.String(fmt.Sprintf("li/%02d", i)), Description: aws.String(fmt.Sprintf("Quick-brown number%d", i%3)),
		}
		if i%2 == 0 {
			in.Tags = []types.Tag{{Key: aws.String("Parity"), Value: aws.String("even-one")}}
		}
		_, err := c.CreateSecret(s, in)
		noError(t, err)
	}
	_, err := c.DeleteSecret(s, &secretsmanager.DeleteSecretInput{SecretId: aws.String("li/22")})
	noError(t, err)
	ours := types.Filter{Key: "name", Values: []string{"li/"}}
	list := func(in secretsmanager.ListSecretsInput) []string {
		t.Helper()
		in.Filters = append([]types.Filter{ours}, in.Filters...)
		names := []string{}
		for {
			out := must(c.ListSecrets(s, &in))(t)
			for _, e := range out.SecretList {
				names = append(names, strings.TrimPrefix(*e.Name, "li/"))
			}
			if out.NextToken == nil {
				return names
			}
			in.NextToken = out.NextToken
		}
	}
	var all []string
	for i := range 22 {
		all = append(all, fmt.Sprintf("%02d", i))
	}
	reversed := slices.Clone(all)
	slices.Reverse(reversed)
	filter := func(key string, values ...string) []types.Filter {
		return []types.Filter{{Key: types.FilterNameStringType(key), Values: values}}
	}
	every := func(step, from int) []string {
		var names []string
		for i := from; i < 22; i += step {
			names = append(names, fmt.Sprintf("%02d", i))
		}
		return names
	}
	for name, test := range map[string]struct {
		in   secretsmanager.ListSecretsInput
		want []string
	}{
		"created":           {secretsmanager.ListSecretsInput{}, all},
		"created, paged":    {secretsmanager.ListSecretsInput{MaxResults: aws.Int32(4)}, all},
		"descending, paged": {secretsmanager.ListSecretsInput{MaxResults: aws.Int32(5), SortOrder: "desc"}, reversed},
		"by name":           {secretsmanager.ListSecretsInput{MaxResults: aws.Int32(7), SortBy: "name"}, all},
		"by name, down": {
			secretsmanager.ListSecretsInput{MaxResults: aws.Int32(7), SortBy: "name", SortOrder: "desc"}, reversed,
		},
		"by access": {secretsmanager.ListSecretsInput{MaxResults: aws.Int32(7), SortBy: "last-accessed-date"}, all},
		"scheduled too": {
			secretsmanager.ListSecretsInput{IncludePlannedDeletion: aws.Bool(true)}, append(slices.Clone(all), "22"),
		},
		"by change":   {secretsmanager.ListSecretsInput{SortBy: "last-changed-date", SortOrder: "desc"}, reversed},
		"description": {secretsmanager.ListSecretsInput{Filters: filter("description", "NUMBER2 quick")}, every(3, 2)},
		"not description": {
			secretsmanager.ListSecretsInput{Filters: filter("description", "!number2"), SortBy: "name"},
			slices.DeleteFunc(slices.Clone(all), func(s string) bool { return slices.Contains(every(3, 2), s) }),
		},
		"tag key":      {secretsmanager.ListSecretsInput{Filters: filter("tag-key", "Par")}, every(2, 0)},
		"tag key case": {secretsmanager.ListSecretsInput{Filters: filter("tag-key", "par")}, []string{}},
		"tag value":    {secretsmanager.ListSecretsInput{Filters: filter("tag-value", "even")}, every(2, 0)},
		"all":          {secretsmanager.ListSecretsInput{Filters: filter("all", "number1")}, every(3, 1)},
		"any value": {
			secretsmanager.ListSecretsInput{Filters: filter("name", "li/01", "li/02")}, []string{"01", "02"},
		},
		"and": {
			secretsmanager.ListSecretsInput{Filters: append(filter("tag-key", "Parity"), filter("description", "number0")...)},
			every(6, 0),
		},
		"primary region": {secretsmanager.ListSecretsInput{Filters: filter("primary-region", "us-east-1")}, []string{}},
	} {
		if diff := cmp.Diff(test.want, list(test.in)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	page := must(c.ListSecrets(s, &secretsmanager.ListSecretsInput{
		Filters: []types.Filter{ours}, MaxResults: aws.Int32(3),
	}))(t)
	for name, in := range map[string]secretsmanager.ListSecretsInput{
		"another query": {NextToken: page.NextToken, MaxResults: aws.Int32(3)},
		"another order": {NextToken: page.NextToken, Filters: []types.Filter{ours}, SortOrder: "desc"},
		"altered":       {NextToken: aws.String("A" + (*page.NextToken)[1:]), Filters: []types.Filter{ours}},
		"nonsense":      {NextToken: aws.String("?")},
	} {
		_, err := c.ListSecrets(s, &in)
		if got, _ := code(err); got != "InvalidNextTokenException" {
			t.Errorf("%s: %s", name, got)
		}
	}
	_, err = c.ListSecrets(s, &secretsmanager.ListSecretsInput{SortBy: "size"})
	wantCode(t, err, "ValidationException", "sortBy")
	_, err = c.ListSecrets(s, &secretsmanager.ListSecretsInput{MaxResults: aws.Int32(101)})
	wantCode(t, err, "ValidationException", "less than or equal to 100")
}

func testVersionLists(t *testing.T, c *client) {
	id := aws.String("vl/x")
	out := create(t, c, *id, "0")
	for i := range 4 {
		put(t, c, secretsmanager.PutSecretValueInput{SecretId: id, SecretString: aws.String(fmt.Sprint(i))})
	}
	list := func(deprecated bool) (entries []types.SecretVersionsListEntry) {
		in := &secretsmanager.ListSecretVersionIdsInput{
			SecretId: out.ARN, MaxResults: aws.Int32(2), IncludeDeprecated: &deprecated,
		}
		for {
			page := must(c.ListSecretVersionIds(t.Context(), in))(t)
			entries = append(entries, page.Versions...)
			if page.NextToken == nil {
				return entries
			}
			in.NextToken = page.NextToken
		}
	}
	if got := list(false); len(got) != 2 {
		t.Errorf("%d labelled versions", len(got))
	}
	all := list(true)
	unlabelled := 0
	for _, e := range all {
		if e.VersionStages == nil {
			unlabelled++
		}
		if !slices.Equal(e.KmsKeyIds, []string{"DefaultEncryptionKey"}) || e.CreatedDate == nil {
			t.Errorf("entry %+v", e)
		}
	}
	if len(all) != 5 || unlabelled != 3 {
		t.Errorf("%d versions, %d unlabelled", len(all), unlabelled)
	}
}

func testBatch(t *testing.T, c *client) {
	a, b := create(t, c, "ba/a", "va"), create(t, c, "ba/b", "vb")
	out := must(c.BatchGetSecretValue(t.Context(),
		&secretsmanager.BatchGetSecretValueInput{SecretIdList: []string{*a.ARN, "ba/none", "ba/b"}}))(t)
	if len(out.SecretValues) != 2 || *out.SecretValues[0].SecretString != "va" ||
		*out.SecretValues[1].VersionId != *b.VersionId {
		t.Errorf("values %+v", out.SecretValues)
	}
	if len(out.Errors) != 1 || *out.Errors[0].ErrorCode != "ResourceNotFoundException" ||
		*out.Errors[0].SecretId != "ba/none" {
		t.Errorf("errors %+v", out.Errors)
	}
	filters := []types.Filter{{Key: "name", Values: []string{"ba/"}}}
	page := must(c.BatchGetSecretValue(t.Context(),
		&secretsmanager.BatchGetSecretValueInput{Filters: filters, MaxResults: aws.Int32(1)}))(t)
	next := must(c.BatchGetSecretValue(t.Context(),
		&secretsmanager.BatchGetSecretValueInput{Filters: filters, MaxResults: aws.Int32(1), NextToken: page.NextToken}))(t)
	if len(page.SecretValues) != 1 || len(next.SecretValues) != 1 || *next.SecretValues[0].Name != "ba/b" {
		t.Errorf("pages %+v and %+v", page.SecretValues, next.SecretValues)
	}
	for _, in := range []secretsmanager.BatchGetSecretValueInput{
		{}, {SecretIdList: []string{"x"}, Filters: filters}, {SecretIdList: []string{"x"}, MaxResults: aws.Int32(1)},
	} {
		_, err := c.BatchGetSecretValue(t.Context(), &in)
		wantCode(t, err, "InvalidParameterException", "")
	}
	_, err := c.BatchGetSecretValue(t.Context(), &secretsmanager.BatchGetSecretValueInput{
		SecretIdList: slices.Repeat([]string{"x"}, 21),
	})
	wantCode(t, err, "ValidationException", "20")
}

func testPasswords(t *testing.T, c *client) {
	draw := func(in secretsmanager.GetRandomPasswordInput) (string, error) {
		out, err := c.GetRandomPassword(t.Context(), &in)
		if err != nil {
			return "", err
		}
		return *out.RandomPassword, nil
	}
	if p := must(draw(secretsmanager.GetRandomPasswordInput{}))(t); len(p) != 32 {
		t.Errorf("%d characters", len(p))
	}
	p := must(draw(secretsmanager.GetRandomPasswordInput{
		PasswordLength: aws.Int64(4096), ExcludePunctuation: aws.Bool(true), ExcludeCharacters: aws.String("abc0"),
	}))(t)
	if len(p) != 4096 || strings.ContainsAny(p, "abc0!-") {
		t.Error("the password has excluded characters")
	}
	_, err := draw(secretsmanager.GetRandomPasswordInput{PasswordLength: aws.Int64(4097)})
	wantCode(t, err, "ValidationException", "4096")
	_, err = draw(secretsmanager.GetRandomPasswordInput{PasswordLength: aws.Int64(3)})
	wantCode(t, err, "InvalidParameterException", "")
}

func testLimits(t *testing.T, c *client) {
	full := strings.Repeat("é", 32768)
	create(t, c, "lm/full", full)
	if got := get(t, c, secretsmanager.GetSecretValueInput{SecretId: aws.String("lm/full")}); *got.SecretString != full {
		t.Error("a value of 65,536 bytes came back another")
	}
	_, err := c.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
		SecretId: aws.String("lm/full"), SecretString: aws.String(full + "x"),
	})
	wantCode(t, err, "ValidationException", "65536")
	if _, message := code(err); strings.Contains(message, "éé") {
		t.Error("the error tells the value")
	}
	_, err = c.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
		SecretId: aws.String("lm/full"), SecretBinary: make([]byte, 65537),
	})
	wantCode(t, err, "ValidationException", "65536")
	name := strings.Repeat("n", 512)
	out := create(t, c, name, "v")
	if got := get(t, c, secretsmanager.GetSecretValueInput{SecretId: out.ARN}); *got.Name != name {
		t.Error("the longest name is not found by its ARN")
	}
}

func testNotHere(t *testing.T, c *client) {
	_, err := c.RotateSecret(t.Context(), &secretsmanager.RotateSecretInput{SecretId: aws.String("x")})
	wantCode(t, err, "UnknownOperationException", "")
}

func testLastAccessed(t *testing.T, c *client) {
	id := create(t, c, "la/x", "v").ARN
	get(t, c, secretsmanager.GetSecretValueInput{SecretId: id})
	wait := ctx(t, 30*time.Second)
	noError(t, eventually(wait, func() error {
		d, err := c.DescribeSecret(wait, &secretsmanager.DescribeSecretInput{SecretId: id})
		if err != nil {
			return err
		}
		v, err := c.ListSecretVersionIds(wait, &secretsmanager.ListSecretVersionIdsInput{SecretId: id})
		if err != nil {
			return err
		}
		today := time.Now().UTC().Truncate(24 * time.Hour)
		if d.LastAccessedDate == nil || v.Versions[0].LastAccessedDate == nil {
			return errors.New("no LastAccessedDate")
		}
		if !d.LastAccessedDate.Equal(today) || !v.Versions[0].LastAccessedDate.Equal(today) {
			return fmt.Errorf("last accessed %v and %v, want midnight UTC", d.LastAccessedDate, v.Versions[0].LastAccessedDate)
		}
		return nil
	}))
}

func eventually(ctx context.Context, check func() error) error {
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// testConcurrentLabels lets writers race for AWSCURRENT: each must win at some moment, and the loser of
// the last race must be AWSPREVIOUS.
func testConcurrentLabels(t *testing.T, c *client) {
	id := create(t, c, "cc/x", "start").ARN
	const writers, each = 8, 10
	done := make(chan error, writers)
	for w := range writers {
		go func() {
			var err error
			for i := range each {
				_, putErr := c.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
					SecretId: id, SecretString: aws.String(fmt.Sprint(w, "-", i)),
				})
				err = errors.Join(err, putErr)
			}
			done <- err
		}()
	}
	for range writers {
		noError(t, <-done)
	}
	d := must(c.DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: id}))(t)
	labels := map[string]int{}
	for _, stages := range d.VersionIdsToStages {
		for _, s := range stages {
			labels[s]++
		}
	}
	if diff := cmp.Diff(map[string]int{"AWSCURRENT": 1, "AWSPREVIOUS": 1}, labels); diff != "" {
		t.Error(diff)
	}
	v := must(c.ListSecretVersionIds(t.Context(),
		&secretsmanager.ListSecretVersionIdsInput{SecretId: id, IncludeDeprecated: aws.Bool(true)}))(t)
	if len(v.Versions) != writers*each+1 {
		t.Errorf("%d versions of %d acknowledged", len(v.Versions), writers*each+1)
	}
}
