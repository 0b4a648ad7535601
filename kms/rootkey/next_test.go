package rootkey_test

import (
	"path/filepath"
	"testing"

	"coffer/kms/rootkey"
)

// TestFollows has names of root keys that a node with another one may be led to, and such that it may not.
func TestFollows(t *testing.T) {
	here, err := filepath.Abs("root-key-2")
	if err != nil {
		t.Fatal(err)
	}
	const hsm, aws = "?module-path=/m.so&pin-source=file:/pin", "?endpoint=https://kms.example&region=r"
	for _, c := range []struct {
		own, spec string
		may       bool
	}{
		{"/etc/coffer/root-key", "/etc/coffer/root-key", true},
		{"/etc/coffer/root-key", "file:/etc/coffer/root-key-2", true},
		{"file:/etc/coffer/root-key-2", "file:/etc/coffer/root-key-10", true},
		{"root-key", "file:" + here, true},
		{"credential:root-key", "credential:root-key.2027", true},
		{"env:ROOT_KEY", "env:ROOT_KEY_2", true},
		{"awskms:alias/root" + aws, "awskms:alias/root-2" + aws, true},
		{"pkcs11:token=t;object=root" + hsm, "pkcs11:token=t;object=root-2" + hsm, true},

		{"/etc/coffer/root-key", "file:/etc/coffer/gossip-key", false},
		{"/etc/coffer/root-key", "file:/etc/coffer/root-key-of-mine", false},
		{"/etc/coffer/root-key", "file:/etc/coffer/root-key/../gossip-key", false},
		{"/etc/coffer/root-key", "file:/tmp/root-key-2", false},
		{"/etc/coffer/root-key", "env:ROOT_KEY", false},
		{"/etc/coffer/root-key", "awskms:alias/root?endpoint=https://mine.example", false},
		{"/etc/coffer/root-key", "pkcs11:token=t;object=o?module-path=/tmp/evil.so&pin-source=file:/pin", false},
		{"env:ROOT_KEY", "env:PATH", false},
		{"awskms:alias/root" + aws, "awskms:alias/root?endpoint=https://mine.example&region=r", false},
		{"awskms:alias/root" + aws, "awskms:alias/mine" + aws, false},
		{"awskms:arn:aws:kms:r:111111111111:alias/root", "awskms:arn:aws:kms:r:222222222222:alias/root", false},
		{"pkcs11:token=t;object=root" + hsm, "pkcs11:token=t;object=root?module-path=/e.so&pin-source=file:/pin", false},
		{"pkcs11:token=t;object=root" + hsm, "pkcs11:token=u;object=root" + hsm, false},
		{"shamir", "file:shamir", false},
		{"", "file:/etc/coffer/root-key", false},
	} {
		if got := rootkey.Follows(c.own, c.spec); got != c.may {
			t.Errorf("from %s to %s: %v", c.own, c.spec, got)
		}
	}
}
