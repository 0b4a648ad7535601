package iam_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"coffer/iam"
)

// A client signs with the SDK; the server examines what it can before it reads the body, and then has the body proven.
func ExampleVerifier() {
	key := iam.Credentials{AccountID: "123456789012", AccessKeyID: "AKIAEXAMPLEEXAMPLE00", SecretAccessKey: "s3cr3t"}
	now := time.Date(2026, 2, 5, 14, 17, 50, 0, time.UTC)
	body := `{"SecretId":"app/db"}`

	sent, err := http.NewRequest(http.MethodPost, "http://coffer.example/", strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	sent.Header.Set("Content-Type", "application/x-amz-json-1.1")
	sent.Header.Set("X-Amz-Target", "secretsmanager.GetSecretValue")
	client := aws.Credentials{AccessKeyID: key.AccessKeyID, SecretAccessKey: key.SecretAccessKey}
	err = v4.NewSigner().SignHTTP(context.Background(), client, sent, hash(body), "secretsmanager", "us-east-1", now)
	if err != nil {
		panic(err)
	}

	verifier := iam.Verifier{Region: "us-east-1", Service: "secretsmanager", Keys: key}
	request := &iam.Request{
		Method: sent.Method, Host: sent.Host, Header: sent.Header, ContentLength: sent.ContentLength,
	}
	claim, err := verifier.Examine(request, now.Add(time.Minute))
	if err != nil {
		panic(err)
	}
	who, err := claim.Prove([]byte(body))
	fmt.Println(who.ARN, err)
	_, err = claim.Prove([]byte(`{"SecretId":"app/another"}`))
	fmt.Println(err != nil)
	_, err = verifier.Examine(request, now.Add(6*time.Minute))
	fmt.Println(err)
	// Output:
	// arn:aws:iam::123456789012:root <nil>
	// true
	// Signature expired: 20260205T141750Z is now earlier than 20260205T141850Z (20260205T142350Z - 5 min.)
}
