package e2e_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/google/uuid"
)

// TestCanary plants values, exercises every operation, and then searches everything that the cluster wrote
// or answered in error for them: data directories with their free pages, Raft logs, snapshots, logs at debug
// level, metrics, error bodies.
func TestCanary(t *testing.T) {
	c := startCluster(t, 3)
	cl := c.Balanced()
	s := aws.String
	canary := func(i int) string { return fmt.Sprintf("Canary%d<\u00e9\n>%s", i, strings.Repeat("zQ7x", 8)) }
	var planted []string
	plant := func() string {
		planted = append(planted, canary(len(planted)))
		return planted[len(planted)-1]
	}
	var answers bytes.Buffer
	note := func(err error) {
		if err != nil {
			fmt.Fprintln(&answers, err)
		}
	}
	token := uuid.NewString()
	_, err := cl.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
		Name: s("canary"), SecretString: s(plant()), ClientRequestToken: &token,
	})
	noError(t, err)
	_, err = cl.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: s("canary"), SecretString: s(plant())})
	note(err)
	for range 60 { // enough to leave free pages behind
		put(t, cl, secretsmanager.PutSecretValueInput{SecretId: s("canary"), SecretString: s(plant())})
	}
	put(t, cl, secretsmanager.PutSecretValueInput{SecretId: s("canary"), SecretBinary: []byte(plant())})
	_, err = cl.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
		SecretId: s("canary"), SecretString: s(plant()), ClientRequestToken: &token,
	})
	note(err)
	_, err = cl.UpdateSecret(t.Context(), &secretsmanager.UpdateSecretInput{
		SecretId: s("canary"), SecretString: s(plant()),
	})
	noError(t, err)
	_, err = cl.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
		SecretId: s("canary"), SecretString: s(plant() + strings.Repeat("x", 65536)),
	})
	note(err)
	_, err = cl.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
		SecretId: s("nowhere"), SecretString: s(plant()),
	})
	note(err)
	_, err = cl.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
		SecretId: s("canary"), SecretString: s(plant()), VersionStages: []string{""},
	})
	note(err)
	get(t, cl, secretsmanager.GetSecretValueInput{SecretId: s("canary")})
	_, err = cl.BatchGetSecretValue(t.Context(), &secretsmanager.BatchGetSecretValueInput{
		Filters: []types.Filter{{Key: "all", Values: []string{"canary"}}},
	})
	noError(t, err)
	for _, body := range []string{
		`{"SecretId":"canary","SecretString":{"a":%s}}`, `{"SecretId":"canary","SecretString":%s`,
		`{"SecretId":"canary","SecretBinary":%s}`,
		`{"SecretId":"canary","SecretString":%s,"ClientRequestToken":"short"}`, `%s`, `{"SecretId":%s}`, `{%s:1,%[1]s:2}`,
	} {
		quoted := strings.ReplaceAll(fmt.Sprintf("%q", plant()), `\u00e9`, "é")
		_, answer := raw(t, c, c.Nodes[0], "PutSecretValue", []byte(fmt.Sprintf(body, quoted)))
		if !strings.Contains(body, `{"SecretId":%s}`) { // a SecretId is no secret: its value may be told
			answers.WriteString(answer)
		}
	}
	_, err = cl.DeleteSecret(t.Context(), &secretsmanager.DeleteSecretInput{
		SecretId: create(t, cl, "gone", plant()).ARN, ForceDeleteWithoutRecovery: aws.Bool(true),
	})
	noError(t, err)
	snapshot := filepath.Join(c.Dir, "snapshot")
	if out, err := c.Nodes[1].Operate(t.Context(), "snapshot", "save", snapshot); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, n := range c.Nodes {
		_, metrics, err := n.Get("/metrics")
		noError(t, err)
		answers.WriteString(metrics)
		n.Kill()
		noError(t, n.Start())
	}
	noError(t, c.AwaitReady(ctx(t, time.Minute)))
	if got := get(t, cl, secretsmanager.GetSecretValueInput{SecretId: s("canary")}); got.SecretString == nil {
		t.Error("the value is gone")
	}
	for _, n := range c.Nodes {
		n.Stop()
	}

	needles := forms(planted)
	if !found(needles, []byte("x"+base64.StdEncoding.EncodeToString([]byte("ab"+planted[0])))) ||
		!found(needles, []byte(planted[3])) {
		t.Fatal("the search does not find what it must")
	}
	if found(needles, answers.Bytes()) {
		t.Errorf("an error or a metric tells a value:\n%s", answers.String())
	}
	if searched := search(t, c.Dir, needles); searched < 20 {
		t.Errorf("only %d files were searched", searched)
	}
}

// search looks for needles in all files of a directory but root keys, and answers how many there are.
func search(t *testing.T, dir string, needles [][]byte) (searched int) {
	t.Helper()
	noError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "root-key" {
			return err
		}
		b, err := os.ReadFile(path)
		if found(needles, b) {
			t.Errorf("what must not stand anywhere stands in %s", path)
		}
		searched++
		return err
	}))
	return searched
}

// TestKeyCanary searches everything at rest for key material in the clear: the root key's, material that was imported,
// data keys, and what was encrypted.
func TestKeyCanary(t *testing.T) {
	c := startCluster(t, 3)
	k := c.BalancedKMS()
	root := must(base64.StdEncoding.DecodeString(strings.TrimSpace(
		string(must(os.ReadFile(filepath.Join(c.Dir, "root-key")))(t)))))(t)
	keys := [][]byte{root}
	for _, spec := range []kmstypes.KeySpec{kmstypes.KeySpecSymmetricDefault, kmstypes.KeySpecHmac512} {
		in := kms.CreateKeyInput{Origin: kmstypes.OriginTypeExternal, KeySpec: spec}
		if spec == kmstypes.KeySpecHmac512 {
			in.KeyUsage = kmstypes.KeyUsageTypeGenerateVerifyMac
		}
		key := newKey(t, k, in)
		p := must(k.GetParametersForImport(t.Context(), &kms.GetParametersForImportInput{
			KeyId: key.KeyId, WrappingAlgorithm: kmstypes.AlgorithmSpecRsaAesKeyWrapSha256,
			WrappingKeySpec: kmstypes.WrappingKeySpecRsa2048,
		}))(t)
		material := make([]byte, map[kmstypes.KeySpec]int{
			kmstypes.KeySpecSymmetricDefault: 32, kmstypes.KeySpecHmac512: 64,
		}[spec])
		rand.Read(material)
		_, err := k.ImportKeyMaterial(t.Context(), &kms.ImportKeyMaterialInput{
			KeyId: key.KeyId, ImportToken: p.ImportToken,
			EncryptedKeyMaterial: wrapFor(t, p, kmstypes.AlgorithmSpecRsaAesKeyWrapSha256, material),
			ExpirationModel:      kmstypes.ExpirationModelTypeKeyMaterialDoesNotExpire,
		})
		noError(t, err)
		keys = append(keys, material)
		if spec == kmstypes.KeySpecHmac512 {
			continue
		}
		made := must(k.GenerateDataKey(t.Context(),
			&kms.GenerateDataKeyInput{KeyId: key.KeyId, KeySpec: kmstypes.DataKeySpecAes256}))(t)
		plain := make([]byte, 40)
		rand.Read(plain)
		sealed := must(k.Encrypt(t.Context(), &kms.EncryptInput{KeyId: key.KeyId, Plaintext: plain}))(t)
		_, err = k.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
		noError(t, err)
		_, err = c.Balanced().CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
			Name: aws.String("s"), SecretBinary: plain, KmsKeyId: key.KeyId,
		})
		noError(t, err)
		keys = append(keys, made.Plaintext, plain)
	}
	_, err := c.Nodes[0].Operate(t.Context(), "snapshot", "save", filepath.Join(c.Dir, "snapshot"))
	noError(t, err)
	for _, n := range c.Nodes {
		n.Stop()
	}
	var needles [][]byte
	for _, key := range keys {
		part := key[:16]
		needles = append(needles, part, []byte(hex.EncodeToString(part)), []byte(base64.StdEncoding.EncodeToString(key[:15])))
	}
	searched := search(t, c.Dir, needles)
	if searched < 20 || !found(needles, must(os.ReadFile(filepath.Join(c.Dir, "root-key")))(t)) {
		t.Errorf("the search of %d files does not find what it must", searched)
	}
}

// forms are the shapes in which a planted value could stand somewhere: its ASCII part raw, in hex, in base64 at
// each alignment, and escaped as JSON does.
func forms(planted []string) [][]byte {
	var needles [][]byte
	for i, value := range planted {
		id := []byte(fmt.Sprintf("Canary%d<", i))
		needles = append(needles, id, []byte(hex.EncodeToString(id)), []byte(strings.ToUpper(hex.EncodeToString(id))),
			[]byte(fmt.Sprintf(`Canary%d\u003c`, i)), []byte(fmt.Sprintf(`Canary%d\u003C`, i)),
			[]byte(fmt.Sprintf(`Canary%d%%3C`, i)))
		for shift := range 3 {
			whole := append(make([]byte, shift), value...)
			for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
				text := enc.EncodeToString(whole)
				needles = append(needles, []byte(text[4:24])) // without the characters that neighbours share
			}
		}
	}
	return needles
}

func found(needles [][]byte, in []byte) bool {
	for _, n := range needles {
		if bytes.Contains(in, n) {
			return true
		}
	}
	return false
}
