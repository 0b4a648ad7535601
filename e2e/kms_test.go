package e2e_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	bigendian "encoding/binary"
	"fmt"
	"hash"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"

	"coffer/internal/testcluster"
)

// TestKMS drives the KMS API with the SDK through a load balancer before three nodes.
func TestKMS(t *testing.T) {
	cluster := startCluster(t, 3)
	k, c := cluster.BalancedKMS(), cluster.Balanced()
	for name, test := range map[string]func(*testing.T, *kms.Client){
		"describe":      testDescribeKey,
		"refused specs": testRefusedSpecs,
		"encrypt":       testEncrypt,
		"data keys":     testDataKeys,
		"macs":          testMacs,
		"aliases":       testAliases,
		"policies":      testKeyPolicies,
		"key tags":      testKeyTags,
		"rotation":      testRotation,
		"import":        testImport,
		"default key":   testDefaultKey,
		"key lists":     testKeyLists,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t, k) })
	}
	t.Run("secrets under keys", func(t *testing.T) { t.Parallel(); testSecretsUnderKeys(t, c, k) })
	t.Run("moving to another key", func(t *testing.T) { t.Parallel(); testMoveToKey(t, c, k) })
}

func newKey(t *testing.T, k *kms.Client, in kms.CreateKeyInput) *types.KeyMetadata {
	t.Helper()
	return must(k.CreateKey(t.Context(), &in))(t).KeyMetadata
}

func testDescribeKey(t *testing.T, k *kms.Client) {
	made := newKey(t, k, kms.CreateKeyInput{
		Description: aws.String("words"), Tags: []types.Tag{{TagKey: aws.String("a"), TagValue: aws.String("b")}},
	})
	if made.KeyState != types.KeyStateEnabled || !made.Enabled || made.Origin != types.OriginTypeAwsKms ||
		made.KeyManager != types.KeyManagerTypeCustomer ||
		made.KeySpec != types.KeySpecSymmetricDefault || made.KeyUsage != types.KeyUsageTypeEncryptDecrypt ||
		len(*made.CurrentKeyMaterialId) != 64 ||
		*made.Arn != "arn:aws:kms:us-east-1:123456789012:key/"+*made.KeyId || *made.AWSAccountId != "123456789012" {
		t.Errorf("made %+v", made)
	}
	_, err := k.UpdateKeyDescription(t.Context(), &kms.UpdateKeyDescriptionInput{
		KeyId: made.Arn, Description: aws.String("other words"),
	})
	noError(t, err)
	for _, id := range []*string{made.KeyId, made.Arn} {
		got := must(k.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: id}))(t).KeyMetadata
		if *got.Description != "other words" || *got.Arn != *made.Arn {
			t.Errorf("got %+v", got)
		}
	}
	missing := uuid.NewString()
	for id, want := range map[string][2]string{
		missing: {"NotFoundException", "Key 'arn:aws:kms:us-east-1:123456789012:key/" + missing + "' does not exist"},
		"arn:aws:kms:eu-west-1:123456789012:key/" + *made.KeyId: {"NotFoundException", "does not exist"},
		"arn:aws:kms:us-east-1:210987654321:key/" + *made.KeyId: {"NotFoundException", "does not exist"},
		"arn:aws:s3:::x":           {"InvalidArnException", "Invalid arn"},
		"alias/nothing-" + missing: {"NotFoundException", "is not found"},
		strings.Repeat("k", 2049):  {"ValidationException", "length less than or equal to 2048"},
	} {
		_, err := k.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
		wantCode(t, err, want[0], want[1])
	}
}

func testRefusedSpecs(t *testing.T, k *kms.Client) {
	for name, test := range map[string]struct {
		in            kms.CreateKeyInput
		code, message string
	}{
		"rsa": {
			kms.CreateKeyInput{KeySpec: types.KeySpecRsa2048, KeyUsage: types.KeyUsageTypeSignVerify},
			"UnsupportedOperationException", "SYMMETRIC_DEFAULT HMAC_224 HMAC_256 HMAC_384 HMAC_512",
		},
		"no usage":     {kms.CreateKeyInput{KeySpec: types.KeySpecHmac256}, "ValidationException", "KeyUsage"},
		"other usage":  {kms.CreateKeyInput{KeyUsage: types.KeyUsageTypeSignVerify}, "ValidationException", "not compatible"},
		"multi region": {kms.CreateKeyInput{MultiRegion: aws.Bool(true)}, "UnsupportedOperationException", "never leave"},
		"hsm": {
			kms.CreateKeyInput{Origin: types.OriginTypeAwsCloudhsm}, "UnsupportedOperationException", "AWS_KMS EXTERNAL",
		},
		"bad policy": {kms.CreateKeyInput{Policy: aws.String("{}")}, "MalformedPolicyDocumentException", ""},
		"aws tag": {
			kms.CreateKeyInput{Tags: []types.Tag{{TagKey: aws.String("aws:x"), TagValue: aws.String("y")}}}, "TagException",
			"reserved",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := k.CreateKey(t.Context(), &test.in)
			wantCode(t, err, test.code, test.message)
		})
	}
}

func testEncrypt(t *testing.T, k *kms.Client) {
	key, other := newKey(t, k, kms.CreateKeyInput{}), newKey(t, k, kms.CreateKeyInput{})
	bound := map[string]string{"purpose": "test", "ü": ""}
	sealed := must(k.Encrypt(t.Context(), &kms.EncryptInput{
		KeyId: key.KeyId, Plaintext: []byte("plain"), EncryptionContext: bound,
	}))(t)
	if *sealed.KeyId != *key.Arn || bytes.Contains(sealed.CiphertextBlob, []byte("plain")) {
		t.Errorf("encrypted %+v", sealed)
	}
	opened := must(k.Decrypt(t.Context(), &kms.DecryptInput{
		CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: bound,
	}))(t)
	if string(opened.Plaintext) != "plain" || *opened.KeyId != *key.Arn ||
		*opened.KeyMaterialId != *key.CurrentKeyMaterialId {
		t.Errorf("decrypted %+v", opened)
	}
	decrypt := func(change func(*kms.DecryptInput)) error {
		in := &kms.DecryptInput{CiphertextBlob: bytes.Clone(sealed.CiphertextBlob), EncryptionContext: bound}
		change(in)
		_, err := k.Decrypt(t.Context(), in)
		return err
	}
	wantCode(t, decrypt(func(in *kms.DecryptInput) { in.KeyId = other.KeyId }), "IncorrectKeyException", "")
	wantCode(t, decrypt(func(in *kms.DecryptInput) { in.EncryptionContext = nil }), "InvalidCiphertextException", "")
	wantCode(t, decrypt(func(in *kms.DecryptInput) {
		in.EncryptionContext = map[string]string{"purpose": "test", "ü": "x"}
	}), "InvalidCiphertextException", "")
	wantCode(t, decrypt(func(in *kms.DecryptInput) {
		in.CiphertextBlob[len(in.CiphertextBlob)-1] ^= 1
	}), "InvalidCiphertextException", "")
	wantCode(t, decrypt(func(in *kms.DecryptInput) { in.CiphertextBlob = []byte("x") }), "InvalidCiphertextException", "")
	wantCode(t, decrypt(func(in *kms.DecryptInput) { in.GrantTokens = []string{"x"} }), "InvalidGrantTokenException", "")
	wantCode(t, decrypt(func(in *kms.DecryptInput) {
		in.DryRun = aws.Bool(true)
	}), "DryRunOperationException", "would have succeeded")
	noError(t, decrypt(func(in *kms.DecryptInput) { in.KeyId = key.Arn }))
	_, err := k.Encrypt(t.Context(), &kms.EncryptInput{KeyId: key.KeyId, Plaintext: make([]byte, 4097)})
	wantCode(t, err, "ValidationException", "4096")

	moved := must(k.ReEncrypt(t.Context(), &kms.ReEncryptInput{
		CiphertextBlob: sealed.CiphertextBlob, SourceEncryptionContext: bound, DestinationKeyId: other.Arn,
		DestinationEncryptionContext: map[string]string{"new": "context"},
	}))(t)
	if *moved.SourceKeyId != *key.Arn || *moved.KeyId != *other.Arn {
		t.Errorf("re-encrypted %+v", moved)
	}
	again := must(k.Decrypt(t.Context(), &kms.DecryptInput{
		CiphertextBlob: moved.CiphertextBlob, EncryptionContext: map[string]string{"new": "context"},
	}))(t)
	if string(again.Plaintext) != "plain" || *again.KeyId != *other.Arn {
		t.Errorf("decrypted %+v", again)
	}
}

func testDataKeys(t *testing.T, k *kms.Client) {
	key := newKey(t, k, kms.CreateKeyInput{})
	for _, test := range []struct {
		in   kms.GenerateDataKeyInput
		size int
	}{
		{kms.GenerateDataKeyInput{KeySpec: types.DataKeySpecAes256}, 32},
		{kms.GenerateDataKeyInput{KeySpec: types.DataKeySpecAes128}, 16},
		{kms.GenerateDataKeyInput{NumberOfBytes: aws.Int32(1024)}, 1024},
	} {
		test.in.KeyId = key.KeyId
		made := must(k.GenerateDataKey(t.Context(), &test.in))(t)
		opened := must(k.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: made.CiphertextBlob}))(t)
		if len(made.Plaintext) != test.size || !bytes.Equal(made.Plaintext, opened.Plaintext) {
			t.Errorf("a data key of %d bytes, decrypted to %d", len(made.Plaintext), len(opened.Plaintext))
		}
	}
	without := must(k.GenerateDataKeyWithoutPlaintext(t.Context(),
		&kms.GenerateDataKeyWithoutPlaintextInput{KeyId: key.KeyId, KeySpec: types.DataKeySpecAes256}))(t)
	if opened := must(k.Decrypt(t.Context(),
		&kms.DecryptInput{CiphertextBlob: without.CiphertextBlob}))(t); len(opened.Plaintext) != 32 ||
		bytes.Equal(opened.Plaintext, make([]byte, 32)) {
		t.Error("the data key is not what was encrypted")
	}
	_, err := k.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: key.KeyId})
	wantCode(t, err, "ValidationException", "either number of bytes or key spec")
	random := must(k.GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(100)}))(t)
	if len(random.Plaintext) != 100 || bytes.Equal(random.Plaintext, make([]byte, 100)) {
		t.Error("no random bytes")
	}
}

func testMacs(t *testing.T, k *kms.Client) {
	for spec, test := range map[types.KeySpec]struct {
		algorithm types.MacAlgorithmSpec
		size      int
	}{
		types.KeySpecHmac224: {types.MacAlgorithmSpecHmacSha224, 28},
		types.KeySpecHmac256: {types.MacAlgorithmSpecHmacSha256, 32},
		types.KeySpecHmac384: {types.MacAlgorithmSpecHmacSha384, 48},
		types.KeySpecHmac512: {types.MacAlgorithmSpecHmacSha512, 64},
	} {
		key := newKey(t, k, kms.CreateKeyInput{KeySpec: spec, KeyUsage: types.KeyUsageTypeGenerateVerifyMac})
		made := must(k.GenerateMac(t.Context(),
			&kms.GenerateMacInput{KeyId: key.KeyId, Message: []byte("m"), MacAlgorithm: test.algorithm}))(t)
		if len(made.Mac) != test.size || len(key.MacAlgorithms) != 1 || key.MacAlgorithms[0] != test.algorithm {
			t.Errorf("%s: a MAC of %d bytes, %+v", spec, len(made.Mac), key)
		}
		verified := must(k.VerifyMac(t.Context(),
			&kms.VerifyMacInput{KeyId: key.KeyId, Message: []byte("m"), MacAlgorithm: test.algorithm, Mac: made.Mac}))(t)
		if !verified.MacValid {
			t.Error("the MAC is not valid")
		}
		_, err := k.VerifyMac(t.Context(), &kms.VerifyMacInput{
			KeyId: key.KeyId, Message: []byte("n"), MacAlgorithm: test.algorithm, Mac: made.Mac,
		})
		wantCode(t, err, "KMSInvalidMacException", "")
		_, err = k.Encrypt(t.Context(), &kms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte("x")})
		wantCode(t, err, "InvalidKeyUsageException", "GENERATE_VERIFY_MAC which is not valid for Encrypt")
		_, err = k.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: key.KeyId})
		wantCode(t, err, "UnsupportedOperationException", "")
	}
}

func testAliases(t *testing.T, k *kms.Client) {
	one, two := newKey(t, k, kms.CreateKeyInput{}), newKey(t, k, kms.CreateKeyInput{})
	mac := newKey(t, k, kms.CreateKeyInput{KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac})
	name := aws.String("alias/al/" + uuid.NewString())
	create := func(name, target *string) error {
		_, err := k.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: name, TargetKeyId: target})
		return err
	}
	noError(t, create(name, one.KeyId))
	wantCode(t, create(name, two.KeyId), "AlreadyExistsException", "already exists")
	wantCode(t, create(aws.String("alias/aws/mine"), one.KeyId), "InvalidAliasNameException", "reserved")
	wantCode(t, create(aws.String("mine"), one.KeyId), "InvalidAliasNameException", "alias/")
	wantCode(t, create(aws.String("alias/x"), name), "NotFoundException", "Invalid keyId")
	of := func(target string) []string {
		var names []string
		for _, a := range must(k.ListAliases(t.Context(), &kms.ListAliasesInput{KeyId: &target}))(t).Aliases {
			names = append(names, *a.AliasName)
		}
		return names
	}
	if got := of(*one.KeyId); len(got) != 1 || got[0] != *name {
		t.Errorf("the key has aliases %v", got)
	}
	_, err := k.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: name, TargetKeyId: two.Arn})
	noError(t, err)
	for _, id := range []string{*name, "arn:aws:kms:us-east-1:123456789012:" + *name} {
		if got := must(k.Encrypt(t.Context(), &kms.EncryptInput{
			KeyId: &id, Plaintext: []byte("x"),
		}))(t); *got.KeyId != *two.Arn {
			t.Errorf("%s is %s", id, *got.KeyId)
		}
	}
	_, err = k.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: name, TargetKeyId: mac.Arn})
	wantCode(t, err, "KMSInvalidStateException", "usage")
	_, err = k.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: name})
	noError(t, err)
	_, err = k.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: name})
	wantCode(t, err, "NotFoundException", "is not found")
	if got := of(*two.KeyId); got != nil {
		t.Errorf("the key has aliases %v", got)
	}
}

func testKeyPolicies(t *testing.T, k *kms.Client) {
	key := newKey(t, k, kms.CreateKeyInput{})
	get := func() string {
		return *must(k.GetKeyPolicy(t.Context(), &kms.GetKeyPolicyInput{KeyId: key.KeyId}))(t).Policy
	}
	if !strings.Contains(get(), "arn:aws:iam::123456789012:root") {
		t.Errorf("the default policy is %s", get())
	}
	policy := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"*"},` +
		`"Action":"kms:Decrypt","Resource":"*"}}`
	_, err := k.PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{
		KeyId: key.KeyId, Policy: &policy, PolicyName: aws.String("default"),
	})
	noError(t, err)
	if get() != policy {
		t.Errorf("the policy is %s", get())
	}
	_, err = k.PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: key.KeyId, Policy: aws.String(`{"Statement":[]}`)})
	wantCode(t, err, "MalformedPolicyDocumentException", "")
	_, err = k.PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{
		KeyId: key.KeyId, Policy: aws.String(policy + strings.Repeat(" ", 32<<10)),
	})
	wantCode(t, err, "LimitExceededException", "")
	if names := must(k.ListKeyPolicies(t.Context(),
		&kms.ListKeyPoliciesInput{KeyId: key.KeyId}))(t).PolicyNames; len(names) != 1 || names[0] != "default" {
		t.Errorf("policies %v", names)
	}
}

func testKeyTags(t *testing.T, k *kms.Client) {
	key := newKey(t, k, kms.CreateKeyInput{})
	tag := func(key, value string) types.Tag { return types.Tag{TagKey: &key, TagValue: &value} }
	var many []types.Tag
	for i := range 50 {
		many = append(many, tag(fmt.Sprintf("k%02d", i), "v"))
	}
	_, err := k.TagResource(t.Context(), &kms.TagResourceInput{KeyId: key.KeyId, Tags: many})
	noError(t, err)
	_, err = k.TagResource(t.Context(), &kms.TagResourceInput{KeyId: key.KeyId, Tags: []types.Tag{tag("more", "")}})
	wantCode(t, err, "LimitExceededException", "50")
	_, err = k.UntagResource(t.Context(), &kms.UntagResourceInput{KeyId: key.KeyId, TagKeys: []string{"k00", "absent"}})
	noError(t, err)
	seen := 0
	pages := kms.NewListResourceTagsPaginator(k, &kms.ListResourceTagsInput{KeyId: key.KeyId, Limit: aws.Int32(20)})
	for pages.HasMorePages() {
		seen += len(must(pages.NextPage(t.Context()))(t).Tags)
	}
	if seen != 49 {
		t.Errorf("%d tags", seen)
	}
}

func testRotation(t *testing.T, k *kms.Client) {
	key := newKey(t, k, kms.CreateKeyInput{})
	_, err := k.EnableKeyRotation(t.Context(), &kms.EnableKeyRotationInput{
		KeyId: key.KeyId, RotationPeriodInDays: aws.Int32(90),
	})
	noError(t, err)
	status := must(k.GetKeyRotationStatus(t.Context(), &kms.GetKeyRotationStatusInput{KeyId: key.KeyId}))(t)
	if in := time.Until(aws.ToTime(status.NextRotationDate)); !status.KeyRotationEnabled ||
		*status.RotationPeriodInDays != 90 || in < 89*24*time.Hour || in > 91*24*time.Hour {
		t.Errorf("status %+v", status)
	}
	_, err = k.DisableKeyRotation(t.Context(), &kms.DisableKeyRotationInput{KeyId: key.KeyId})
	noError(t, err)
	_, err = k.EnableKeyRotation(t.Context(), &kms.EnableKeyRotationInput{
		KeyId: key.KeyId, RotationPeriodInDays: aws.Int32(89),
	})
	wantCode(t, err, "ValidationException", "90")

	var sealed [][]byte
	encrypt := func() {
		sealed = append(sealed, must(k.Encrypt(t.Context(),
			&kms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte("x")}))(t).CiphertextBlob)
	}
	encrypt()
	for range 25 {
		_, err := k.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: key.KeyId})
		noError(t, err)
		encrypt()
	}
	_, err = k.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: key.KeyId})
	wantCode(t, err, "LimitExceededException", "25")
	materials := map[string]bool{}
	for _, c := range sealed {
		materials[*must(k.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: c}))(t).KeyMaterialId] = true
	}
	if len(materials) != 26 {
		t.Errorf("26 ciphertexts are of %d materials", len(materials))
	}
	rotations := 0
	pages := kms.NewListKeyRotationsPaginator(k, &kms.ListKeyRotationsInput{KeyId: key.KeyId, Limit: aws.Int32(10)})
	for pages.HasMorePages() {
		for _, r := range must(pages.NextPage(t.Context()))(t).Rotations {
			rotations++
			if r.RotationType != types.RotationTypeOnDemand || r.RotationDate == nil || !materials[*r.KeyMaterialId] {
				t.Errorf("rotation %+v", r)
			}
		}
	}
	if rotations != 25 {
		t.Errorf("%d rotations", rotations)
	}
}

// wrapPadded is AES Key Wrap with Padding (RFC 5649).
func wrapPadded(t *testing.T, kek, plain []byte) []byte {
	block, err := aes.NewCipher(kek)
	noError(t, err)
	a := bigendian.BigEndian.AppendUint32([]byte{0xA6, 0x59, 0x59, 0xA6}, uint32(len(plain)))
	r := append(bytes.Clone(plain), make([]byte, (8-len(plain)%8)%8)...)
	n := len(r) / 8
	for j := range 6 {
		for i := 1; i <= n; i++ {
			b := append(bytes.Clone(a), r[8*(i-1):8*i]...)
			block.Encrypt(b, b)
			bigendian.BigEndian.PutUint64(a, bigendian.BigEndian.Uint64(b)^uint64(n*j+i))
			copy(r[8*(i-1):], b[8:])
		}
	}
	return append(a, r...)
}

// wrapFor encrypts key material as a user would who imports it.
func wrapFor(t *testing.T, p *kms.GetParametersForImportOutput, algorithm types.AlgorithmSpec, material []byte) []byte {
	t.Helper()
	parsed := must(x509.ParsePKIXPublicKey(p.PublicKey))(t)
	public := parsed.(*rsa.PublicKey)
	digest := hash.Hash(sha256.New())
	if strings.HasSuffix(string(algorithm), "SHA_1") {
		digest = sha1.New()
	}
	switch {
	case algorithm == types.AlgorithmSpecRsaesPkcs1V15:
		return must(rsa.EncryptPKCS1v15(rand.Reader, public, material))(t) //nolint:staticcheck // one of the API's algorithms
	case strings.HasPrefix(string(algorithm), "RSA_AES"):
		kek := make([]byte, 32)
		rand.Read(kek)
		return append(must(rsa.EncryptOAEP(digest, rand.Reader, public, kek, nil))(t), wrapPadded(t, kek, material)...)
	}
	return must(rsa.EncryptOAEP(digest, rand.Reader, public, material, nil))(t)
}

func testImport(t *testing.T, k *kms.Client) {
	key := newKey(t, k, kms.CreateKeyInput{Origin: types.OriginTypeExternal})
	if key.KeyState != types.KeyStatePendingImport || key.Enabled || key.CurrentKeyMaterialId != nil {
		t.Errorf("made %+v", key)
	}
	parameters := func(of *types.KeyMetadata, algorithm types.AlgorithmSpec,
		spec types.WrappingKeySpec) *kms.GetParametersForImportOutput {
		return must(k.GetParametersForImport(t.Context(),
			&kms.GetParametersForImportInput{KeyId: of.KeyId, WrappingAlgorithm: algorithm, WrappingKeySpec: spec}))(t)
	}
	material := make([]byte, 32)
	rand.Read(material)
	p := parameters(key, types.AlgorithmSpecRsaesOaepSha256, types.WrappingKeySpecRsa2048)
	if in := time.Until(*p.ParametersValidTo); in < 23*time.Hour || in > 24*time.Hour {
		t.Errorf("parameters are valid for %v", in)
	}
	imported := func(of *types.KeyMetadata, p *kms.GetParametersForImportOutput, algorithm types.AlgorithmSpec,
		material []byte, change func(*kms.ImportKeyMaterialInput)) error {
		in := &kms.ImportKeyMaterialInput{
			KeyId: of.KeyId, ImportToken: p.ImportToken, EncryptedKeyMaterial: wrapFor(t, p, algorithm, material),
			ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire,
		}
		if change != nil {
			change(in)
		}
		_, err := k.ImportKeyMaterial(t.Context(), in)
		return err
	}
	take := func(material []byte, change func(*kms.ImportKeyMaterialInput)) error {
		return imported(key, p, types.AlgorithmSpecRsaesOaepSha256, material, change)
	}
	other := newKey(t, k, kms.CreateKeyInput{Origin: types.OriginTypeExternal})
	wantCode(t, imported(other, p, types.AlgorithmSpecRsaesOaepSha256, material, nil), "InvalidImportTokenException", "")
	wantCode(t, take(material[:31], nil), "IncorrectKeyMaterialException", "32 bytes")
	wantCode(t, take(material, func(in *kms.ImportKeyMaterialInput) {
		in.EncryptedKeyMaterial[9] ^= 1
	}), "InvalidCiphertextException", "")
	wantCode(t, take(material, func(in *kms.ImportKeyMaterialInput) {
		in.ImportToken = bytes.Clone(in.ImportToken)
		in.ImportToken[20] ^= 1
	}), "InvalidImportTokenException", "")
	wantCode(t, take(material, func(in *kms.ImportKeyMaterialInput) {
		in.ExpirationModel = ""
	}), "ValidationException", "validTo")
	noError(t, take(material, nil))

	sealed := must(k.Encrypt(t.Context(), &kms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte("x")}))(t).CiphertextBlob
	_, err := k.DeleteImportedKeyMaterial(t.Context(), &kms.DeleteImportedKeyMaterialInput{KeyId: key.KeyId})
	noError(t, err)
	_, err = k.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed})
	wantCode(t, err, "KMSInvalidStateException", "is pending import")
	second := make([]byte, 32)
	rand.Read(second)
	wantCode(t, take(second, nil), "IncorrectKeyMaterialException", "not the same")
	noError(t, take(material, func(in *kms.ImportKeyMaterialInput) {
		in.ExpirationModel, in.ValidTo = types.ExpirationModelTypeKeyMaterialExpires, aws.Time(time.Now().Add(4*time.Second))
	}))
	opens := func() error {
		_, err := k.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed})
		return err
	}
	noError(t, opens())
	noError(t, testcluster.Eventually(ctx(t, 30*time.Second), "the material's expiry", func() error {
		if got, _ := code(opens()); got != "KMSInvalidStateException" {
			return fmt.Errorf("decrypting answers %s", got)
		}
		return nil
	}))
	noError(t, take(material, nil))
	noError(t, opens())

	// New material waits until it is rotated to.
	_, err = k.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: key.KeyId})
	wantCode(t, err, "KMSInvalidStateException", "pending rotation")
	noError(t, take(second, func(in *kms.ImportKeyMaterialInput) { in.ImportType = types.ImportTypeNewKeyMaterial }))
	states := func() (states []types.KeyMaterialState) {
		for _, r := range must(k.ListKeyRotations(t.Context(),
			&kms.ListKeyRotationsInput{
				KeyId: key.KeyId, IncludeKeyMaterial: types.IncludeKeyMaterialAllKeyMaterial,
			}))(t).Rotations {
			states = append(states, r.KeyMaterialState)
		}
		return states
	}
	if got := fmt.Sprint(states()); got != "[CURRENT PENDING_ROTATION]" {
		t.Errorf("material %s", got)
	}
	_, err = k.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: key.KeyId})
	noError(t, err)
	if got := fmt.Sprint(states()); got != "[NON_CURRENT CURRENT]" {
		t.Errorf("material %s", got)
	}
	noError(t, opens())
	_, err = k.EnableKeyRotation(t.Context(), &kms.EnableKeyRotationInput{KeyId: key.KeyId})
	wantCode(t, err, "UnsupportedOperationException", "EXTERNAL")

	// Every wrapping algorithm, and material of our own choice for an HMAC key.
	mac := newKey(t, k, kms.CreateKeyInput{
		Origin: types.OriginTypeExternal, KeySpec: types.KeySpecHmac512, KeyUsage: types.KeyUsageTypeGenerateVerifyMac,
	})
	long := make([]byte, 64)
	rand.Read(long)
	for algorithm, spec := range map[types.AlgorithmSpec]types.WrappingKeySpec{
		types.AlgorithmSpecRsaesPkcs1V15:       types.WrappingKeySpecRsa2048,
		types.AlgorithmSpecRsaesOaepSha1:       types.WrappingKeySpecRsa2048,
		types.AlgorithmSpecRsaesOaepSha256:     types.WrappingKeySpecRsa3072,
		types.AlgorithmSpecRsaAesKeyWrapSha1:   types.WrappingKeySpecRsa2048,
		types.AlgorithmSpecRsaAesKeyWrapSha256: types.WrappingKeySpecRsa4096,
	} {
		if err := imported(mac, parameters(mac, algorithm, spec), algorithm, long, nil); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
	}
	computed := must(k.GenerateMac(t.Context(),
		&kms.GenerateMacInput{KeyId: mac.KeyId, Message: []byte("m"), MacAlgorithm: types.MacAlgorithmSpecHmacSha512}))(t)
	if want := hmacSHA512(long, "m"); !hmac.Equal(computed.Mac, want) {
		t.Error("the MAC is not that of the imported key")
	}
}

func testDefaultKey(t *testing.T, k *kms.Client) {
	id := aws.String("alias/aws/secretsmanager")
	key := must(k.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: id}))(t).KeyMetadata
	if key.KeyManager != types.KeyManagerTypeAws {
		t.Errorf("the default key is %+v", key)
	}
	_, err := k.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: key.KeyId})
	wantCode(t, err, "AccessDeniedException", "managed")
	_, err = k.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: key.KeyId})
	wantCode(t, err, "AccessDeniedException", "managed")
	_, err = k.Encrypt(t.Context(), &kms.EncryptInput{KeyId: id, Plaintext: []byte("x")})
	wantCode(t, err, "AccessDeniedException", "managed")
}

func testKeyLists(t *testing.T, k *kms.Client) {
	want := map[string]bool{}
	for range 5 {
		want[*newKey(t, k, kms.CreateKeyInput{}).KeyId] = true
	}
	pages := kms.NewListKeysPaginator(k, &kms.ListKeysInput{Limit: aws.Int32(2)})
	for pages.HasMorePages() {
		for _, key := range must(pages.NextPage(t.Context()))(t).Keys {
			delete(want, *key.KeyId)
		}
	}
	if len(want) > 0 {
		t.Errorf("keys that the list misses: %v", want)
	}
	_, err := k.ListKeys(t.Context(), &kms.ListKeysInput{Marker: aws.String("nonsense")})
	wantCode(t, err, "InvalidMarkerException", "")
}

func testSecretsUnderKeys(t *testing.T, c *client, k *kms.Client) {
	key := newKey(t, k, kms.CreateKeyInput{})
	alias := aws.String("alias/uk/" + uuid.NewString())
	_, err := k.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: alias, TargetKeyId: key.KeyId})
	noError(t, err)
	for i, id := range []string{*key.KeyId, *key.Arn, *alias, "arn:aws:kms:us-east-1:123456789012:" + *alias} {
		name := fmt.Sprint("uk/", i)
		_, err := c.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
			Name: &name, SecretString: aws.String("v"), KmsKeyId: &id,
		})
		noError(t, err)
		d := must(c.DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: &name}))(t)
		if aws.ToString(d.KmsKeyId) != *key.Arn {
			t.Errorf("%s is under %s", name, aws.ToString(d.KmsKeyId))
		}
		ids := must(c.ListSecretVersionIds(t.Context(), &secretsmanager.ListSecretVersionIdsInput{SecretId: &name}))(t)
		if len(ids.Versions) != 1 || len(ids.Versions[0].KmsKeyIds) != 1 || ids.Versions[0].KmsKeyIds[0] != *key.Arn {
			t.Errorf("versions %+v", ids.Versions)
		}
	}
	id := aws.String("uk/0")
	refused := func(why string) {
		t.Helper()
		_, err := c.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: id})
		wantCode(t, err, "DecryptionFailure", "")
		_, err = c.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
			SecretId: id, SecretString: aws.String("w"),
		})
		wantCode(t, err, "EncryptionFailure", "")
		_, err = c.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
			Name: aws.String("uk/" + why), SecretString: aws.String("w"), KmsKeyId: key.KeyId,
		})
		wantCode(t, err, "EncryptionFailure", "")
		batch := must(c.BatchGetSecretValue(t.Context(),
			&secretsmanager.BatchGetSecretValueInput{SecretIdList: []string{*id}}))(t)
		if len(batch.Errors) != 1 || *batch.Errors[0].ErrorCode != "DecryptionFailure" {
			t.Errorf("%s: a batch answers %+v", why, batch.Errors)
		}
	}
	_, err = k.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: key.KeyId})
	noError(t, err)
	refused("disabled")
	_, err = k.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{
		KeyId: key.KeyId, PendingWindowInDays: aws.Int32(7),
	})
	noError(t, err)
	refused("pending")
	_, err = k.CancelKeyDeletion(t.Context(), &kms.CancelKeyDeletionInput{KeyId: key.KeyId})
	noError(t, err)
	refused("cancelled") // it is disabled then
	_, err = k.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: key.KeyId})
	noError(t, err)
	if got := get(t, c, secretsmanager.GetSecretValueInput{SecretId: id}); *got.SecretString != "v" {
		t.Errorf("the value is %s: a refused put made a version", *got.SecretString)
	}
	hmacKey := newKey(t, k, kms.CreateKeyInput{
		KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac,
	})
	_, err = c.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
		Name: aws.String("uk/mac"), KmsKeyId: hmacKey.KeyId,
	})
	wantCode(t, err, "EncryptionFailure", "")
}

func testMoveToKey(t *testing.T, c *client, k *kms.Client) {
	from, to := newKey(t, k, kms.CreateKeyInput{}), newKey(t, k, kms.CreateKeyInput{})
	id := aws.String("mk/x")
	_, err := c.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
		Name: id, SecretString: aws.String("0"), KmsKeyId: from.KeyId,
	})
	noError(t, err)
	old := put(t, c, secretsmanager.PutSecretValueInput{
		SecretId: id, SecretString: aws.String("mine"), VersionStages: []string{"mine"},
	}).VersionId
	for _, v := range []string{"1", "2"} {
		put(t, c, secretsmanager.PutSecretValueInput{SecretId: id, SecretString: &v})
	}
	put(t, c, secretsmanager.PutSecretValueInput{
		SecretId: id, SecretString: aws.String("3"), VersionStages: []string{"AWSPENDING"},
	})
	_, err = c.UpdateSecret(t.Context(), &secretsmanager.UpdateSecretInput{SecretId: id, KmsKeyId: to.KeyId})
	noError(t, err)
	_, err = k.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: from.KeyId})
	noError(t, err)
	for label, want := range map[string]string{"AWSCURRENT": "2", "AWSPREVIOUS": "1", "AWSPENDING": "3"} {
		if got := get(t, c, secretsmanager.GetSecretValueInput{
			SecretId: id, VersionStage: &label,
		}); *got.SecretString != want {
			t.Errorf("%s is %s", label, *got.SecretString)
		}
	}
	_, err = c.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: id, VersionId: old})
	wantCode(t, err, "DecryptionFailure", "") // other versions stay under the key that they had
	_, err = c.UpdateSecret(t.Context(), &secretsmanager.UpdateSecretInput{SecretId: id, KmsKeyId: from.KeyId})
	wantCode(t, err, "EncryptionFailure", "")
	_, err = c.UpdateSecret(t.Context(), &secretsmanager.UpdateSecretInput{
		SecretId: id, KmsKeyId: aws.String(""), SecretString: aws.String("4"),
	})
	noError(t, err)
	d := must(c.DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: id}))(t)
	if d.KmsKeyId != nil {
		t.Errorf("under the default key it shows %s", *d.KmsKeyId)
	}
	if got := get(t, c, secretsmanager.GetSecretValueInput{SecretId: id}); *got.SecretString != "4" {
		t.Errorf("the value is %s", *got.SecretString)
	}
}

// TestDisabledKeyIsRefusedEverywhere disables and enables a key through one node while readers at the others
// read a secret under it: from the answer to DisableKey on no read may succeed, from that to EnableKey on all must.
func TestDisabledKeyIsRefusedEverywhere(t *testing.T) {
	cluster := startCluster(t, 3)
	k := cluster.Nodes[0].KMS()
	key := newKey(t, k, kms.CreateKeyInput{})
	id := aws.String("secret")
	_, err := cluster.Nodes[0].Client().CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
		Name: id, SecretString: aws.String("v"), KmsKeyId: key.KeyId,
	})
	noError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	load := make(chan struct{})
	for _, n := range cluster.Nodes { // readers that keep every node busy
		c := n.Client()
		for range 2 {
			go func() {
				for ctx.Err() == nil {
					_, _ = c.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: id})
				}
				load <- struct{}{}
			}()
		}
	}
	for i := range 60 {
		enabled := i%2 == 1
		if enabled {
			_, err = k.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: key.KeyId})
		} else {
			_, err = k.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: key.KeyId})
		}
		noError(t, err)
		for _, n := range cluster.Nodes[1:] {
			_, err := n.Client().GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: id})
			if got, _ := code(err); enabled && err != nil || !enabled && got != "DecryptionFailure" {
				t.Fatalf("round %d at %s: the key is enabled: %v, the read answers %v", i, n.ID, enabled, err)
			}
			_, err = n.Client().PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
				SecretId: id, SecretString: aws.String("v"),
			})
			if got, _ := code(err); enabled && err != nil || !enabled && got != "EncryptionFailure" {
				t.Fatalf("round %d at %s: the key is enabled: %v, the write answers %v", i, n.ID, enabled, err)
			}
			_, err = n.KMS().Encrypt(t.Context(), &kms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte("x")})
			if got, _ := code(err); enabled && err != nil || !enabled && got != "DisabledException" {
				t.Fatalf("round %d at %s: the key is enabled: %v, Encrypt answers %v", i, n.ID, enabled, err)
			}
		}
	}
	stop()
	for range 2 * len(cluster.Nodes) {
		<-load
	}
}

func hmacSHA512(key []byte, message string) []byte {
	h := hmac.New(sha512.New, key)
	h.Write([]byte(message))
	return h.Sum(nil)
}
