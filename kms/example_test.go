package kms_test

import (
	"crypto/rand"
	"fmt"

	"github.com/google/uuid"

	"coffer/kms"
)

// Each version of a secret has a data key of its own. The data key encrypts the value, and is itself sealed under the
// material of a KMS key. Both are bound to the secret and the version, so neither can be put in another's place.
func ExampleDataKey() {
	material := make([]byte, 32) // of the KMS key; stored only wrapped under the root key
	_, _ = rand.Read(material)   // it never fails
	keyID := uuid.New()
	one := kms.SecretContext("arn:aws:secretsmanager:us-east-1:123456789012:secret:app/db-AbCdEf", "version-one")
	two := kms.SecretContext("arn:aws:secretsmanager:us-east-1:123456789012:secret:app/db-AbCdEf", "version-two")

	key, raw, err := kms.NewDataKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	value, err := key.Seal(one, []byte("correct horse"))
	if err != nil {
		panic(err)
	}
	wrapped, err := kms.Seal(material, keyID, 0, one, raw, rand.Reader)
	if err != nil {
		panic(err)
	}
	clear(raw) // from here on the value can be read only by who has the material

	header, err := kms.ParseHeader(wrapped)
	fmt.Println(header.KeyID == keyID.String(), header.Generation, err)
	unwrapped, err := kms.Open(material, one, wrapped)
	fmt.Println(len(unwrapped), err)
	_, err = kms.Open(material, two, wrapped)
	fmt.Println(err != nil)
	plain, err := key.Open(one, value)
	fmt.Println(string(plain), err)
	_, err = key.Open(two, value)
	fmt.Println(err != nil)
	// Output:
	// true 0 <nil>
	// 32 <nil>
	// true
	// correct horse <nil>
	// true
}
