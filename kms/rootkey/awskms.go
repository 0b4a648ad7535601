package rootkey

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// awsTimeout bounds a call with its retries.
const awsTimeout = 10 * time.Second

// awsKMS is a root key in AWS KMS, or in what speaks its API.
type awsKMS struct {
	client *kms.Client
	key    string // ARN
}

// openAWSKMS opens KEY?endpoint=URL&region=REGION&credentials=FILE&profile=NAME. KEY is an id, ARN or alias;
// everything else is optional. Credentials are looked for as every AWS SDK does, or in FILE.
func openAWSKMS(ctx context.Context, spec string) (Provider, error) {
	key, query, _ := strings.Cut(spec, "?")
	options, err := url.ParseQuery(query)
	if err != nil || key == "" {
		return nil, errors.New("the root key wants awskms:KEY?endpoint=URL&region=REGION&credentials=FILE&profile=NAME, " +
			"all but the key optional")
	}
	for name := range options {
		if name != "endpoint" && name != "region" && name != "credentials" && name != "profile" {
			return nil, fmt.Errorf("the root key awskms:%s has the unknown option %s", key, name)
		}
	}
	region := options.Get("region")
	if parsed, err := arn.Parse(key); err == nil && region == "" {
		region = parsed.Region
	}
	var load []func(*config.LoadOptions) error
	if region != "" {
		load = append(load, config.WithRegion(region))
	}
	if file := options.Get("credentials"); file != "" {
		load = append(load, config.WithSharedCredentialsFiles([]string{file}))
	}
	if profile := options.Get("profile"); profile != "" {
		load = append(load, config.WithSharedConfigProfile(profile))
	}
	c, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("the root key awskms:%s: %w", key, err)
	}
	client := kms.NewFromConfig(c, func(o *kms.Options) {
		if endpoint := options.Get("endpoint"); endpoint != "" {
			o.BaseEndpoint = &endpoint
		}
	})
	ctx, cancel := context.WithTimeout(ctx, awsTimeout)
	defer cancel()
	found, err := client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &key})
	if err != nil {
		return nil, &TransientError{fmt.Errorf("the root key awskms:%s can't be reached: %w", key, err)}
	}
	return &awsKMS{client, aws.ToString(found.KeyMetadata.Arn)}, nil
}

func binding(additional []byte) map[string]string {
	return map[string]string{"coffer": string(additional)}
}

func (k *awsKMS) Wrap(ctx context.Context, plaintext, additional []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, awsTimeout)
	defer cancel()
	out, err := k.client.Encrypt(ctx, &kms.EncryptInput{
		KeyId: &k.key, Plaintext: plaintext, EncryptionContext: binding(additional),
	})
	if err != nil {
		return nil, fmt.Errorf("encrypt under the root key %s: %w", k.key, err)
	}
	return out.CiphertextBlob, nil
}

func (k *awsKMS) Unwrap(ctx context.Context, wrapped, additional []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, awsTimeout)
	defer cancel()
	out, err := k.client.Decrypt(ctx, &kms.DecryptInput{
		KeyId: &k.key, CiphertextBlob: wrapped, EncryptionContext: binding(additional),
	})
	var invalid *types.InvalidCiphertextException
	var incorrect *types.IncorrectKeyException
	switch {
	case errors.As(err, &invalid), errors.As(err, &incorrect):
		return nil, ErrWrongKey
	case err != nil:
		return nil, fmt.Errorf("decrypt under the root key %s: %w", k.key, err)
	}
	return out.Plaintext, nil
}

// ID is derived from the key's ARN: its material can't be seen.
func (k *awsKMS) ID() string {
	sum := sha256.Sum256([]byte("coffer root key id v1: " + k.key))
	return hex.EncodeToString(sum[:16])
}
