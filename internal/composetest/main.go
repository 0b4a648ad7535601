// Command composetest is the client's part of scripts/test-compose: SDK calls to the regions of docker-compose.yml.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"coffer/iam"
	"coffer/internal/testcluster"
)

// The first client port of each region.
var regions = map[string]int{"us-east-1": 7411, "eu-west-1": 7421, "ap-south-1": 7431}

const (
	limit = 2 * time.Minute
	id    = "app/db"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := run(ctx, os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "composetest:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, step string, args []string) error {
	if step == "await" {
		for _, port := range args {
			if err := testcluster.Eventually(ctx, "a region", func() error { return ready(port) }); err != nil {
				return err
			}
		}
		return nil
	}
	raw, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var c iam.Credentials
	if err := json.Unmarshal(raw, &c); err != nil {
		return err
	}
	client := func(region string) *secretsmanager.Client {
		return secretsmanager.New(secretsmanager.Options{
			Region: region, BaseEndpoint: aws.String(fmt.Sprintf("http://127.0.0.1:%d", regions[region])),
			Credentials: credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, ""),
		})
	}
	put := func(region, value string) error {
		_, err := client(region).PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{
			SecretId: aws.String(id), SecretString: &value,
		})
		return err
	}
	read := func(value string, in ...string) error {
		for _, region := range in {
			err := testcluster.Eventually(ctx, "a region", func() error {
				got, err := client(region).GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String(id)})
				if err == nil && *got.SecretString != value {
					err = errors.New("it has another value")
				}
				return err
			})
			if err != nil {
				return fmt.Errorf("read %q in %s: %w", value, region, err)
			}
			fmt.Printf("%s reads %q\n", region, value)
		}
		return nil
	}
	switch step {
	case "replicate":
		_, err := client("us-east-1").CreateSecret(ctx, &secretsmanager.CreateSecretInput{
			Name: aws.String(id), SecretString: aws.String("one"),
			AddReplicaRegions: []types.ReplicaRegionType{{Region: aws.String("eu-west-1")}, {Region: aws.String("ap-south-1")}},
		})
		return errors.Join(err, read("one", "us-east-1", "eu-west-1", "ap-south-1"))
	case "failed-over":
		return errors.Join(put("eu-west-1", "two"), read("two", "eu-west-1", "ap-south-1"))
	case "failed-back":
		return errors.Join(put("us-east-1", "three"), read("three", "us-east-1", "eu-west-1", "ap-south-1"))
	}
	return fmt.Errorf("no step %q", step)
}

func ready(port string) error {
	resp, err := http.Get("http://127.0.0.1:" + port + "/readyz")
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(port + " is not ready")
	}
	return nil
}
