// Package encryptionsdk_test uses the AWS Encryption SDK with Coffer's KMS. It is a module of its own, since nothing
// else needs that library.
package encryptionsdk_test

import (
	"context"
	"os"
	"testing"

	mpl "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygenerated"
	mpltypes "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygeneratedtypes"
	esdk "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygenerated"
	esdktypes "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygeneratedtypes"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// TestEncryptionSDK encrypts a message with the AWS Encryption SDK, whose data keys come from GenerateDataKey and
// whose signature keys and commitment need Decrypt, and decrypts it after the key was rotated. scripts/test-clients
// runs it against `coffer dev`.
func TestEncryptionSDK(t *testing.T) {
	endpoint := os.Getenv("AWS_ENDPOINT_URL_KMS")
	if endpoint == "" {
		t.Fatal("AWS_ENDPOINT_URL_KMS is not set: run scripts/test-clients")
	}
	ctx := context.Background()
	client := kms.New(kms.Options{
		Region: os.Getenv("AWS_REGION"), BaseEndpoint: &endpoint,
		Credentials: credentials.NewStaticCredentialsProvider(os.Getenv("AWS_ACCESS_KEY_ID"),
			os.Getenv("AWS_SECRET_ACCESS_KEY"), ""),
	})
	made, err := client.CreateKey(ctx, &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	providers, err := mpl.NewClient(mpltypes.MaterialProvidersConfig{})
	if err != nil {
		t.Fatal(err)
	}
	keyring, err := providers.CreateAwsKmsKeyring(ctx, mpltypes.CreateAwsKmsKeyringInput{
		KmsClient: client, KmsKeyId: *made.KeyMetadata.Arn,
	})
	if err != nil {
		t.Fatal(err)
	}
	commitment := mpltypes.ESDKCommitmentPolicyRequireEncryptRequireDecrypt
	sdk, err := esdk.NewClient(esdktypes.AwsEncryptionSdkConfig{CommitmentPolicy: &commitment})
	if err != nil {
		t.Fatal(err)
	}
	bound := map[string]string{"purpose": "test"}
	sealed, err := sdk.Encrypt(ctx, esdktypes.EncryptInput{
		Plaintext: []byte("a message"), EncryptionContext: bound, Keyring: keyring,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{
		KeyId: aws.String(*made.KeyMetadata.KeyId),
	}); err != nil {
		t.Fatal(err)
	}
	opened, err := sdk.Decrypt(ctx, esdktypes.DecryptInput{
		Ciphertext: sealed.Ciphertext, EncryptionContext: bound, Keyring: keyring,
	})
	if err != nil {
		t.Fatal(err)
	}
	if string(opened.Plaintext) != "a message" {
		t.Error("it decrypts to something else")
	}
	if _, err := client.DisableKey(ctx, &kms.DisableKeyInput{KeyId: made.KeyMetadata.KeyId}); err != nil {
		t.Fatal(err)
	}
	if _, err := sdk.Decrypt(ctx, esdktypes.DecryptInput{Ciphertext: sealed.Ciphertext, Keyring: keyring}); err == nil {
		t.Error("it decrypts under a disabled key")
	}
}
