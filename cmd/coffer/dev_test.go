package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"coffer/internal/testcluster"
)

// devProcess is a running `coffer dev`.
type devProcess struct {
	t      *testing.T
	binary string
	dir    string
	output string // file
	cmd    *exec.Cmd
	info   devInfo
	done   chan struct{}
}

// startDev starts `coffer dev` and waits for dev.json.
func startDev(t *testing.T, binary, dir string, args ...string) *devProcess {
	t.Helper()
	_ = os.Remove(filepath.Join(dir, devJSON)) // one that was killed leaves it behind
	d := &devProcess{
		t: t, binary: binary, dir: dir, output: filepath.Join(t.TempDir(), "output"), done: make(chan struct{}),
	}
	output, err := os.Create(d.output)
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	d.cmd = exec.Command(binary, append([]string{"dev", "--port", "0", "--data", dir}, args...)...)
	d.cmd.Stdout, d.cmd.Stderr = output, output
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = d.cmd.Wait(); close(d.done) }()
	t.Cleanup(func() { // its nodes have to be gone before their directories are
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		<-d.done
	})
	d.eventually("dev.json", func() error {
		select {
		case <-d.done:
			t.Fatalf("coffer dev ended: %s", d.said())
		default:
		}
		_, err := os.Stat(filepath.Join(dir, devJSON))
		return err
	})
	d.reload()
	return d
}

// reload reads dev.json, which says what is so now.
func (d *devProcess) reload() {
	d.t.Helper()
	b, err := os.ReadFile(filepath.Join(d.dir, devJSON))
	if err == nil {
		d.info = devInfo{}
		err = json.Unmarshal(b, &d.info)
	}
	if err != nil {
		d.t.Fatalf("dev.json: %v", err)
	}
}

// said is what it has printed.
func (d *devProcess) said() string {
	b, err := os.ReadFile(d.output)
	if err != nil {
		d.t.Fatal(err)
	}
	return string(b)
}

func (d *devProcess) eventually(what string, check func() error) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Minute)
	defer cancel()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			d.t.Fatalf("waited for %s: %v", what, err)
		}
	}
}

func (d *devProcess) client(i int) *secretsmanager.Client {
	return secretsmanager.New(secretsmanager.Options{
		Region: "us-east-1", BaseEndpoint: &d.info.Regions["us-east-1"].Endpoints[i],
		Credentials: credentials.NewStaticCredentialsProvider(d.info.AccessKeyID, d.info.SecretAccessKey, ""),
		HTTPClient:  &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	})
}

// childrenEnd waits until no node of d runs any more.
func (d *devProcess) childrenEnd() {
	d.t.Helper()
	d.eventually("the nodes' end", func() error {
		for _, n := range d.info.Regions["us-east-1"].Nodes {
			if err := syscall.Kill(n.PID, 0); !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("node %s (%d) still runs", n.ID, n.PID)
			}
		}
		return nil
	})
}

// TestDevKeepsSecrets starts `coffer dev` on one directory again and again, however it ended before: by
// SIGTERM, by SIGKILL, by Ctrl-C. Its nodes never outlive it, and the secret is always there.
func TestDevKeepsSecrets(t *testing.T) {
	binary, err := testcluster.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, nodes := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "dev")
			first := ""
			for i, end := range []func(*devProcess){
				func(d *devProcess) { _ = d.cmd.Process.Signal(syscall.SIGTERM) },
				func(d *devProcess) { _ = d.cmd.Process.Kill() },
				func(d *devProcess) { _ = d.cmd.Process.Signal(os.Interrupt) },
				func(d *devProcess) { _ = d.cmd.Process.Signal(syscall.SIGTERM) },
			} {
				d := startDev(t, binary, dir, "--nodes", fmt.Sprint(nodes))
				if got := len(d.info.Regions["us-east-1"].Nodes); got != nodes ||
					len(d.info.Regions["us-east-1"].Endpoints) != nodes {
					t.Fatalf("dev.json has %d nodes", got)
				}
				if i == 0 {
					first = d.info.AccessKeyID
					if _, err := d.client(0).CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
						Name: aws.String("kept"), SecretString: aws.String("v"),
					}); err != nil {
						t.Fatal(err)
					}
				}
				got, err := d.client(nodes-1).GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{
					SecretId: aws.String("kept"),
				})
				if err != nil || *got.SecretString != "v" || d.info.AccessKeyID != first {
					t.Fatalf("start %d: %v", i, err)
				}
				end(d)
				<-d.done
				d.childrenEnd()
			}
		})
	}
}

// TestDevRegions starts two regions, replicates between them, and asks for their status as a person would.
func TestDevRegions(t *testing.T) {
	binary, err := testcluster.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "dev")
	d := startDev(t, binary, dir, "--region", "us-east-1,eu-west-1")
	if len(d.info.Regions) != 2 || len(d.info.Regions["eu-west-1"].Endpoints) != 1 {
		t.Fatalf("dev.json has %v", d.info.Regions)
	}
	replicas := []types.ReplicaRegionType{{Region: aws.String("eu-west-1")}}
	d.eventually("the regions to know each other", func() error {
		_, err := d.client(0).CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
			Name: aws.String("s"), SecretString: aws.String("v"), AddReplicaRegions: replicas,
		})
		return err
	})
	there := secretsmanager.New(d.client(0).Options(), func(o *secretsmanager.Options) {
		o.Region, o.BaseEndpoint = "eu-west-1", &d.info.Regions["eu-west-1"].Endpoints[0]
	})
	d.eventually("the replica", func() error {
		_, err := there.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("s")})
		return err
	})
	for _, region := range []string{"us-east-1", "eu-west-1"} {
		out, err := exec.Command(binary, "regions", "list", "--config",
			filepath.Join(dir, region, operatorYAML)).CombinedOutput()
		if err != nil || strings.Count(string(out), "alive") != 2 {
			t.Errorf("regions list in %s: %v\n%s", region, err, out)
		}
	}
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	<-d.done
	d.childrenEnd()
}
