package node_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

// TestClockJumpPurgesNothing sets a leader's clock a month ahead: what waits to be deleted stays, and the node says
// why, until an operator confirms the clock.
func TestClockJumpPurgesNothing(t *testing.T) {
	n := start(t)
	ctx := t.Context()
	_, err := n.Secrets.CreateSecret(ctx, &secretsmanager.CreateSecretInput{
		Name: aws.String("a"), SecretString: aws.String("v"),
	})
	noError(t, err)
	_, err = n.Secrets.DeleteSecret(ctx, &secretsmanager.DeleteSecretInput{SecretId: aws.String("a")})
	noError(t, err)
	key, err := n.Keys.CreateKey(ctx, &kms.CreateKeyInput{})
	noError(t, err)
	_, err = n.Keys.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: key.KeyMetadata.KeyId})
	noError(t, err)
	n.await(t, "the clock to be believed", func() bool { return ready(t, n) == "ready\n" })

	n.ahead.Store(int64(31 * 24 * time.Hour))
	n.Due(ctx)
	if got := ready(t, n); got != "ready\nwarning: clock\n" {
		t.Errorf("/readyz says %q", got)
	}
	if _, err := n.Cluster().Time(); err == nil || n.Cluster().Status().Clock.Believed {
		t.Error("the clock is believed")
	}
	n.ahead.Store(0)
	_, err = n.Secrets.RestoreSecret(ctx, &secretsmanager.RestoreSecretInput{SecretId: aws.String("a")})
	noError(t, err)
	got, err := n.Keys.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: key.KeyMetadata.KeyId})
	noError(t, err)
	if got.KeyMetadata.KeyState != types.KeyStatePendingDeletion {
		t.Errorf("the key is %s", got.KeyMetadata.KeyState)
	}

	n.ahead.Store(int64(31 * 24 * time.Hour))
	n.Cluster().ConfirmClock()
	n.Due(ctx)
	n.ahead.Store(0)
	if got, err := n.Keys.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: key.KeyMetadata.KeyId}); err == nil {
		t.Errorf("the key is %s", got.KeyMetadata.KeyState)
	}
}

func ready(t *testing.T, n *running) string {
	t.Helper()
	resp, err := http.Get(n.Endpoint() + "/readyz")
	noError(t, err)
	defer resp.Body.Close()
	var b strings.Builder
	_, err = io.Copy(&b, resp.Body)
	noError(t, err)
	return b.String()
}
