package iam

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
)

// Principal is an authenticated caller.
type Principal struct {
	Account string // 12 digits
	ARN     string // arn:aws:iam::<account>:root for the account's root
}

// Root is the principal of an account's root, which everything in the account is open to.
func Root(account string) Principal {
	return Principal{Account: account, ARN: "arn:aws:iam::" + account + ":root"}
}

// AccessKey is what a caller signs with.
type AccessKey struct {
	ID        string
	Secret    string
	Principal Principal
}

// Keys finds access keys. One that is not there is answered with false.
type Keys interface {
	AccessKey(id string) (AccessKey, bool)
}

// Credentials are the root credentials of an account, as their file holds them.
type Credentials struct {
	AccountID       string `json:"account_id"`
	AccessKeyID     string `json:"access_key_id"`
	SecretAccessKey string `json:"secret_access_key"`
}

// AccessKey makes Credentials serve as Keys with one access key.
func (c Credentials) AccessKey(id string) (AccessKey, bool) {
	return AccessKey{ID: c.AccessKeyID, Secret: c.SecretAccessKey, Principal: Root(c.AccountID)}, id == c.AccessKeyID
}

// Check says what is missing or malformed.
func (c Credentials) Check() error {
	switch {
	case len(c.AccountID) != 12:
		return fmt.Errorf("account_id: wanted 12 digits, found %d characters", len(c.AccountID))
	case len(c.AccessKeyID) < 16 || len(c.AccessKeyID) > 128:
		return fmt.Errorf("access_key_id: wanted 16 to 128 characters, found %d", len(c.AccessKeyID))
	case len(c.SecretAccessKey) < 32:
		return fmt.Errorf("secret_access_key: wanted at least 32 characters, found %d", len(c.SecretAccessKey))
	}
	return nil
}

// GenerateCredentials draws root credentials for an account.
func GenerateCredentials(account string) Credentials {
	raw := make([]byte, 30)
	rand.Read(raw) // never fails (crypto/rand)
	return Credentials{
		AccountID:       account,
		AccessKeyID:     "AKIA" + rand.Text()[:16],
		SecretAccessKey: base64.StdEncoding.EncodeToString(raw),
	}
}

// GenerateAccount draws an account id.
func GenerateAccount() string {
	var raw [12]byte
	rand.Read(raw[:])
	for i := range raw {
		raw[i] = '1' + raw[i]%9
	}
	return string(raw[:])
}
