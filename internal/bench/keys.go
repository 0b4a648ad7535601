package main

import (
	"encoding/base64"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

// keys measures the KMS on one node beside reads of secrets, under the default key and under a customer's.
func (b *bench) keys() error {
	r, err := b.region("keys", 1)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := b.create(r, 0, 2*secretsRead); err != nil {
		return err
	}
	client := r.Nodes[0].KMS()
	made, err := client.CreateKey(b.ctx, &kms.CreateKeyInput{})
	if err != nil {
		return err
	}
	key := *made.KeyMetadata.KeyId
	for i := range secretsRead { // the second half moves under the customer's key
		id := name(secretsRead + i)
		if _, err := r.Nodes[0].Client().UpdateSecret(b.ctx, &secretsmanager.UpdateSecretInput{
			SecretId: &id, KmsKeyId: &key,
		}); err != nil {
			return err
		}
	}
	sealed, err := client.Encrypt(b.ctx, &kms.EncryptInput{KeyId: &key, Plaintext: make([]byte, 32)})
	if err != nil {
		return err
	}
	blob := base64.StdEncoding.EncodeToString(sealed.CiphertextBlob)
	plain := base64.StdEncoding.EncodeToString(make([]byte, 32))
	kmsSigner := newSigner(r.Credentials.AccessKeyID, r.Credentials.SecretAccessKey, r.Region, "kms", time.Now())
	on := func(operation, body string) load {
		l := r.load(operation, readers, roundTime, func(int, int) []byte { return []byte(body) })
		l.signer = kmsSigner
		return l
	}
	contenders := []contender{
		{"secret, default key", r.load("GetSecretValue", readers, roundTime, getBody(secretsRead))},
		{"secret, customer key", r.load("GetSecretValue", readers, roundTime, func(worker, i int) []byte {
			return fmt.Appendf(nil, `{"SecretId":%q}`, name(secretsRead+(worker*7919+i*31)%secretsRead))
		})},
		{"Encrypt", on("Encrypt", fmt.Sprintf(`{"KeyId":%q,"Plaintext":%q}`, key, plain))},
		{"Decrypt", on("Decrypt", fmt.Sprintf(`{"CiphertextBlob":%q}`, blob))},
		{"GenerateDataKey", on("GenerateDataKey", fmt.Sprintf(`{"KeyId":%q,"KeySpec":"AES_256"}`, key))},
	}
	cpu, err := b.rounds(contenders)
	if err != nil {
		return err
	}
	var ratios []float64
	for i := range cpu[0] {
		ratios = append(ratios, cpu[1][i]/cpu[0][i])
	}
	fmt.Printf("a read under a customer key: %.2f × the CPU of one under the default key (goal: at most 1.1)\n",
		median(ratios))
	for i, c := range contenders[2:] {
		fmt.Printf("%s: %.0f µs CPU\n", c.name, median(cpu[i+2]))
	}
	return nil
}
