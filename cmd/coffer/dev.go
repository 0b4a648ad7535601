package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"coffer/cluster/pki"
	"coffer/iam"
	"coffer/kms/rootkey"
	"coffer/node"
	"coffer/secret"
)

// devConfig is what `coffer dev` was asked for.
type devConfig struct {
	nodes    int
	port     int
	dir      string
	region   string
	logLevel string
}

func devCommand() *cobra.Command {
	var c devConfig
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a cluster on this machine, to try it",
		Long: `Run a region's cluster on loopback, with keys, certificates and credentials made on
the first start and used again after: secrets survive a restart. It is the server
that runs in production, started for you.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDev(cmd.Context(), cmd.OutOrStdout(), c) },
	}
	cmd.Flags().IntVar(&c.nodes, "nodes", 1, "number of nodes")
	cmd.Flags().IntVar(&c.port, "port", 7400, "client port of the first node, the others follow; 0 picks free ones")
	cmd.Flags().StringVar(&c.dir, "data", "", "directory for everything (default: coffer-dev in the user's state folder)")
	cmd.Flags().StringVar(&c.region, "region", "us-east-1", "name of the region")
	cmd.Flags().StringVar(&c.logLevel, "log-level", "info", "of the nodes' log files: debug, info, warn or error")
	return cmd
}

// The files of a development directory.
const (
	devJSON       = "dev.json"
	rootKeyFile   = "root-key"
	gossipKeyFile = "gossip-key"
	rootCredsFile = "root-credentials.json"
	operatorYAML  = "operator.yaml"
)

// devInfo is dev.json: the contract for scripts and tests.
type devInfo struct {
	iam.Credentials
	Regions map[string]devRegion `json:"regions"`
}

type devRegion struct {
	Endpoints []string  `json:"endpoints"`
	Nodes     []devNode `json:"nodes"`
}

type devNode struct {
	ID       string `json:"id"`
	PID      int    `json:"pid"`
	Endpoint string `json:"endpoint"`
	Data     string `json:"data"`
}

func stateDir() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "coffer-dev"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no state folder: give --data: %w", err)
	}
	return filepath.Join(home, ".local", "state", "coffer-dev"), nil
}

func runDev(ctx context.Context, out io.Writer, c devConfig) (err error) {
	switch {
	case c.nodes < 1 || c.nodes > 9:
		return fmt.Errorf("--nodes %d: wanted 1 to 9", c.nodes)
	case !secret.ValidRegion(c.region):
		return fmt.Errorf("--region %q: wanted one name such as us-east-1", c.region)
	}
	if c.dir == "" {
		if c.dir, err = stateDir(); err != nil {
			return err
		}
	}
	if c.dir, err = filepath.Abs(c.dir); err != nil {
		return err
	}
	creds, err := c.prepare()
	if err != nil {
		return err
	}
	_ = os.Remove(filepath.Join(c.dir, devJSON)) // of a run that was killed

	d := &dev{config: c, exited: make(chan error, c.nodes)}
	defer d.stop()
	region := devRegion{}
	first := node.Info{}
	for i := range c.nodes {
		info, err := d.start(ctx, i, first.Gossip)
		if err != nil {
			return err
		}
		if i == 0 {
			first = info
		}
		region.Endpoints = append(region.Endpoints, info.Endpoint)
		region.Nodes = append(region.Nodes, devNode{info.ID, info.PID, info.Endpoint, c.nodeDir(i)})
	}
	if err := d.awaitReady(ctx, region.Endpoints); err != nil {
		return err
	}
	if err := c.writeOperator(first.Peer); err != nil {
		return err
	}
	defer os.Remove(filepath.Join(c.dir, devJSON))
	if err := writeJSON(filepath.Join(c.dir, devJSON), devInfo{creds, map[string]devRegion{c.region: region}}); err != nil {
		return err
	}
	fmt.Fprintf(out, `Coffer runs with %d node(s) in region %s; its data is in %s

  export AWS_ENDPOINT_URL_SECRETS_MANAGER=%s AWS_ENDPOINT_URL_KMS=%s
  export AWS_ACCESS_KEY_ID=%s
  export AWS_SECRET_ACCESS_KEY=%s
  export AWS_REGION=%s AWS_DEFAULT_REGION=%s

  aws secretsmanager create-secret --name my/first --secret-string 'correct horse'

Look at the cluster:  coffer cluster members --config %s
Ctrl-C stops it.
`, c.nodes, c.region, c.dir, region.Endpoints[0], region.Endpoints[0], creds.AccessKeyID, creds.SecretAccessKey, c.region, c.region, filepath.Join(c.dir, operatorYAML))

	select {
	case <-ctx.Done():
		return nil
	case err := <-d.exited:
		return err
	}
}

func (c *devConfig) path(parts ...string) string {
	return filepath.Join(append([]string{c.dir}, parts...)...)
}

func (c *devConfig) id(i int) string         { return "n" + strconv.Itoa(i+1) }
func (c *devConfig) nodeDir(i int) string    { return c.path(c.region, c.id(i), "data") }
func (c *devConfig) certDir(i int) string    { return c.path(c.region, c.id(i), "pki") }
func (c *devConfig) keyPath(n string) string { return c.path(c.region, n) }

// prepare makes what is missing: authority, certificates, keys, credentials.
func (c *devConfig) prepare() (creds iam.Credentials, err error) {
	if err := os.MkdirAll(c.path(c.region), 0o700); err != nil {
		return creds, err
	}
	ca := c.path("ca")
	missing := func(path string, create func() error) {
		if err != nil {
			return
		}
		if _, statErr := os.Stat(path); errors.Is(statErr, os.ErrNotExist) {
			err = create()
		}
	}
	missing(filepath.Join(ca, pki.CAFile), func() error { return pki.CreateAuthority(ca, time.Now()) })
	missing(c.keyPath(rootKeyFile), func() error { return createPrivate(c.keyPath(rootKeyFile), rootkey.Generate()) })
	missing(c.keyPath(gossipKeyFile), func() error { return createPrivate(c.keyPath(gossipKeyFile), rootkey.Generate()) })
	missing(c.path(rootCredsFile), func() error {
		b, err := json.MarshalIndent(iam.GenerateCredentials(iam.GenerateAccount()), "", "  ")
		if err != nil {
			return err
		}
		return createPrivate(c.path(rootCredsFile), b)
	})
	issue := func(dir string, role pki.Role, id string) {
		missing(filepath.Join(dir, pki.CertFile), func() error {
			return pki.Issue(ca, dir, pki.Identity{Role: role, Region: c.region, ID: id}, time.Now())
		})
	}
	for i := range c.nodes {
		issue(c.certDir(i), pki.Node, c.id(i))
	}
	issue(c.path(c.region, "operator"), pki.Operator, "dev")
	if err != nil {
		return creds, err
	}
	raw, err := rootkey.ReadPrivate(c.path(rootCredsFile))
	if err != nil {
		return creds, err
	}
	return creds, json.Unmarshal(raw, &creds)
}

func (c *devConfig) writeOperator(peer string) error {
	dir := c.path(c.region, "operator")
	yaml := fmt.Sprintf("node: %s\nca: %s\ncert: %s\nkey: %s\n", peer, filepath.Join(dir, pki.CAFile), filepath.Join(dir, pki.CertFile), filepath.Join(dir, pki.KeyFile))
	return os.WriteFile(c.path(operatorYAML), []byte(yaml), 0o600)
}

// dev is the running children.
type dev struct {
	config devConfig
	exited chan error // what ended a child that was not told to end

	mu       sync.Mutex // guards below
	stopping bool
	children []*child
}

type child struct {
	cmd   *exec.Cmd
	stdin io.Closer // its end tells the child that this process has ended
	log   *os.File
	done  chan struct{}
}

const startTimeout = 60 * time.Second

// start runs node i and waits until it listens.
func (d *dev) start(ctx context.Context, i int, join string) (info node.Info, err error) {
	c := &d.config
	self, err := os.Executable()
	if err != nil {
		return info, err
	}
	port := 0
	if c.port != 0 {
		port = c.port + i
	}
	data := c.nodeDir(i)
	if err := os.MkdirAll(data, 0o700); err != nil {
		return info, err
	}
	_ = os.Remove(filepath.Join(data, node.InfoFile))
	pkiDir := c.certDir(i)
	args := []string{
		"server", "--stop-with-parent", "--log-level", c.logLevel, "--data", data,
		"--ca", filepath.Join(pkiDir, pki.CAFile), "--cert", filepath.Join(pkiDir, pki.CertFile), "--key", filepath.Join(pkiDir, pki.KeyFile),
		"--listen", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), "--peer", "127.0.0.1:0", "--gossip", "127.0.0.1:0",
		"--gossip-key", c.keyPath(gossipKeyFile), "--root-key", c.keyPath(rootKeyFile), "--root-credentials", c.path(rootCredsFile),
		"--bootstrap-expect", strconv.Itoa(c.nodes),
	}
	if join != "" {
		args = append(args, "--join", join)
	}
	logPath := c.path(c.region, c.id(i), "log")
	logFile, err := os.OpenFile(logPath, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return info, err
	}
	ch := &child{cmd: exec.Command(self, args...), log: logFile, done: make(chan struct{})}
	ch.cmd.Stdout, ch.cmd.Stderr = logFile, logFile
	ch.cmd.Env = append(os.Environ(), "COFFER_CONFIG=")
	ch.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for this process, which stops them in order
	if ch.stdin, err = ch.cmd.StdinPipe(); err != nil {
		return info, err
	}
	if err := ch.cmd.Start(); err != nil {
		return info, err
	}
	d.mu.Lock()
	d.children = append(d.children, ch)
	d.mu.Unlock()
	go func() {
		err := ch.cmd.Wait()
		_ = logFile.Close()
		close(ch.done)
		d.mu.Lock()
		defer d.mu.Unlock()
		if !d.stopping {
			d.exited <- fmt.Errorf("node %s ended by itself (%v); the end of its log, %s:\n%s", c.id(i), err, logPath, tail(logPath))
		}
	}()
	return info, d.await(ctx, "node "+c.id(i)+" to listen", func() bool {
		b, err := os.ReadFile(filepath.Join(data, node.InfoFile))
		return err == nil && json.Unmarshal(b, &info) == nil
	})
}

func (d *dev) awaitReady(ctx context.Context, endpoints []string) error {
	client := &http.Client{Timeout: 2 * time.Second}
	for _, endpoint := range endpoints {
		err := d.await(ctx, endpoint+" to be ready", func() bool {
			resp, err := client.Get(endpoint + "/readyz")
			if err != nil {
				return false
			}
			_ = resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// await polls until ok, a child's end, or startTimeout.
func (d *dev) await(ctx context.Context, what string, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for !ok() {
		select {
		case <-time.After(20 * time.Millisecond):
		case err := <-d.exited:
			return err
		case <-ctx.Done():
			return fmt.Errorf("waited for %s: %w; the nodes' logs are under %s", what, ctx.Err(), d.config.dir)
		}
	}
	return nil
}

// stop ends all children, with SIGTERM and, if one does not end, SIGKILL.
func (d *dev) stop() {
	d.mu.Lock()
	d.stopping = true
	children := d.children
	d.mu.Unlock()
	for _, ch := range children {
		_ = ch.cmd.Process.Signal(syscall.SIGTERM)
	}
	deadline := time.After(30 * time.Second)
	for _, ch := range children {
		select {
		case <-ch.done:
		case <-deadline:
			_ = ch.cmd.Process.Kill()
			<-ch.done
		}
		_ = ch.stdin.Close()
	}
}

func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}

// writeJSON writes a file atomically.
func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
