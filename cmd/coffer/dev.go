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
	"slices"
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
	regions  []string
	logLevel string
}

func devCommand() *cobra.Command {
	var c devConfig
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a cluster on this machine, to try it",
		Long: `Run the clusters of one or more regions on loopback, with keys, certificates and
credentials made on the first start and used again after: secrets survive a restart.
It is the server that runs in production, started for you.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDev(cmd.Context(), cmd.OutOrStdout(), c) },
	}
	cmd.Flags().IntVar(&c.nodes, "nodes", 1, "number of nodes of each region")
	cmd.Flags().IntVar(&c.port, "port", 7400, "client port of the first node, the others follow; 0 picks free ones")
	cmd.Flags().StringVar(&c.dir, "data", "", "directory for everything (default: coffer-dev in the user's state folder)")
	cmd.Flags().StringSliceVar(&c.regions, "region", []string{"us-east-1"}, "names of the regions")
	cmd.Flags().StringVar(&c.logLevel, "log-level", "info", "of the nodes' log files: debug, info, warn or error")
	return cmd
}

// The files of a development directory.
const (
	devJSON         = "dev.json"
	rootKeyFile     = "root-key"
	gossipKeyFile   = "gossip-key"
	regionGossipKey = "region-gossip-key"
	rootCredsFile   = "root-credentials.json"
	operatorYAML    = "operator.yaml"
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

// check says which of the names and numbers is wrong.
func (c *devConfig) check() error {
	switch {
	case c.nodes < 1 || c.nodes > 9:
		return fmt.Errorf("--nodes %d: wanted 1 to 9", c.nodes)
	case len(c.regions) == 0:
		return errors.New("--region is empty: wanted names such as us-east-1,eu-west-1")
	}
	for i, region := range c.regions {
		if !secret.ValidRegion(region) || slices.Contains(c.regions[:i], region) {
			return fmt.Errorf("--region %q: wanted different names such as us-east-1,eu-west-1", strings.Join(c.regions, ","))
		}
	}
	return nil
}

func runDev(ctx context.Context, out io.Writer, c devConfig) (err error) {
	if err := c.check(); err != nil {
		return err
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

	d := &dev{config: c, exited: make(chan error, c.nodes*len(c.regions))}
	defer d.stop()
	info := devInfo{creds, map[string]devRegion{}}
	var seed string // gossip address of the first node of all
	var endpoints []string
	for r, name := range c.regions {
		region, first := devRegion{}, node.Info{}
		for i := range c.nodes {
			started, err := d.start(ctx, place{r, i}, first.Gossip, seed)
			if err != nil {
				return err
			}
			if i == 0 {
				first = started
			}
			if seed == "" {
				seed = started.Regions
			}
			region.Endpoints = append(region.Endpoints, started.Endpoint)
			region.Nodes = append(region.Nodes, devNode{started.ID, started.PID, started.Endpoint, c.nodeDir(name, i)})
		}
		info.Regions[name] = region
		endpoints = append(endpoints, region.Endpoints...)
		if err := c.writeOperator(name, first.Peer); err != nil {
			return err
		}
	}
	if err := d.awaitReady(ctx, endpoints); err != nil {
		return err
	}
	defer os.Remove(filepath.Join(c.dir, devJSON))
	if err := writeJSON(filepath.Join(c.dir, devJSON), info); err != nil {
		return err
	}
	d.explain(out, info)

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

func (c *devConfig) id(i int) string                     { return "n" + strconv.Itoa(i+1) }
func (c *devConfig) nodeDir(region string, i int) string { return c.path(region, c.id(i), "data") }
func (c *devConfig) certDir(region string, i int) string { return c.path(region, c.id(i), "pki") }

// operatorDir has the certificate of an operator of all the regions, which it lists.
func (c *devConfig) operatorDir() string { return c.path("operator") }

// explain tells what to paste.
func (d *dev) explain(out io.Writer, info devInfo) {
	c := &d.config
	first := c.regions[0]
	endpoint := info.Regions[first].Endpoints[0]
	fmt.Fprintf(out, `Coffer runs with %d node(s) in %s; its data is in %s

  export AWS_ENDPOINT_URL_SECRETS_MANAGER=%s AWS_ENDPOINT_URL_KMS=%s
  export AWS_ACCESS_KEY_ID=%s
  export AWS_SECRET_ACCESS_KEY=%s
  export AWS_REGION=%s AWS_DEFAULT_REGION=%s

  aws secretsmanager create-secret --name my/first --secret-string 'correct horse'
`, c.nodes, strings.Join(c.regions, ", "), c.dir, endpoint, endpoint, info.AccessKeyID, info.SecretAccessKey, first, first)
	for _, region := range c.regions[1:] {
		fmt.Fprintf(out, `
Replicate it to %s, and read it there:

  aws secretsmanager replicate-secret-to-regions --secret-id my/first --add-replica-regions Region=%s
  aws secretsmanager get-secret-value --secret-id my/first --region %s --endpoint-url %s
`, region, region, region, info.Regions[region].Endpoints[0])
	}
	fmt.Fprintf(out, "\nLook at the cluster:  coffer cluster members --config %s\n", c.path(first, operatorYAML))
	if len(c.regions) > 1 {
		fmt.Fprintf(out, "Look at the regions:  coffer regions status --config %s\n", c.path(first, operatorYAML))
	}
	fmt.Fprintln(out, "Ctrl-C stops it.")
}

// prepare makes what is missing: authority, certificates, keys, credentials.
func (c *devConfig) prepare() (creds iam.Credentials, err error) {
	ca := c.path("ca")
	missing := func(path string, create func() error) {
		if err != nil {
			return
		}
		if _, statErr := os.Stat(path); errors.Is(statErr, os.ErrNotExist) {
			err = create()
		}
	}
	issue := func(dir string, id pki.Identity, others ...string) {
		missing(filepath.Join(dir, pki.CertFile), func() error { return pki.Issue(ca, dir, id, time.Now(), others...) })
	}
	private := func(path string) {
		missing(path, func() error { return createPrivate(path, rootkey.Generate()) })
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return creds, err
	}
	missing(filepath.Join(ca, pki.CAFile), func() error { return pki.CreateAuthority(ca, time.Now()) })
	missing(c.path(rootCredsFile), func() error {
		b, err := json.MarshalIndent(iam.GenerateCredentials(iam.GenerateAccount()), "", "  ")
		if err != nil {
			return err
		}
		return createPrivate(c.path(rootCredsFile), b)
	})
	private(c.path(regionGossipKey))
	for _, region := range c.regions {
		if err := os.MkdirAll(c.path(region), 0o700); err != nil {
			return creds, err
		}
		private(c.path(region, rootKeyFile))
		private(c.path(region, gossipKeyFile))
		for i := range c.nodes {
			issue(c.certDir(region, i), pki.Identity{Role: pki.Node, Region: region, ID: c.id(i)})
		}
	}
	if err := c.dropOperator(); err != nil {
		return creds, err
	}
	issue(c.operatorDir(), pki.Identity{Role: pki.Operator, Region: c.regions[0], ID: "dev"}, c.regions[1:]...)
	if err != nil {
		return creds, err
	}
	raw, err := rootkey.ReadPrivate(c.path(rootCredsFile))
	if err != nil {
		return creds, err
	}
	return creds, json.Unmarshal(raw, &creds)
}

// dropOperator removes an operator's certificate that is not for all the regions.
func (c *devConfig) dropOperator() error {
	const list = "regions"
	path := filepath.Join(c.operatorDir(), list)
	regions := strings.Join(c.regions, ",")
	if b, err := os.ReadFile(path); err == nil && string(b) == regions {
		return nil
	}
	return errors.Join(os.RemoveAll(c.operatorDir()), os.MkdirAll(c.operatorDir(), 0o700), os.WriteFile(path, []byte(regions), 0o600))
}

// writeOperator makes the configuration of operators' commands about a region.
func (c *devConfig) writeOperator(region, peer string) error {
	dir := c.operatorDir()
	yaml := fmt.Sprintf("node: %s\nregion: %s\nca: %s\ncert: %s\nkey: %s\n", peer, region, filepath.Join(dir, pki.CAFile), filepath.Join(dir, pki.CertFile), filepath.Join(dir, pki.KeyFile))
	return os.WriteFile(c.path(region, operatorYAML), []byte(yaml), 0o600)
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

// place is which node of which region is meant.
type place struct{ region, node int }

// start runs a node and waits until it listens. join is a gossip address in its region, seed one of another region's;
// either may be empty.
func (d *dev) start(ctx context.Context, at place, join, seed string) (info node.Info, err error) {
	c := &d.config
	self, err := os.Executable()
	if err != nil {
		return info, err
	}
	port := 0
	if c.port != 0 {
		port = c.port + at.region*c.nodes + at.node
	}
	region := c.regions[at.region]
	data, name := c.nodeDir(region, at.node), c.id(at.node)+" of "+region
	if err := os.MkdirAll(data, 0o700); err != nil {
		return info, err
	}
	_ = os.Remove(filepath.Join(data, node.InfoFile))
	pkiDir := c.certDir(region, at.node)
	args := []string{
		"server", "--stop-with-parent", "--log-level", c.logLevel, "--data", data,
		"--ca", filepath.Join(pkiDir, pki.CAFile), "--cert", filepath.Join(pkiDir, pki.CertFile), "--key", filepath.Join(pkiDir, pki.KeyFile),
		"--listen", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), "--peer", "127.0.0.1:0", "--gossip", "127.0.0.1:0",
		"--gossip-key", c.path(region, gossipKeyFile), "--root-key", c.path(region, rootKeyFile), "--root-credentials", c.path(rootCredsFile),
		"--bootstrap-expect", strconv.Itoa(c.nodes),
	}
	if join != "" {
		args = append(args, "--join", join)
	}
	if len(c.regions) > 1 {
		args = append(args, "--region-gossip", "127.0.0.1:0", "--region-gossip-key", c.path(regionGossipKey))
		if seed != "" {
			args = append(args, "--region-join", seed)
		}
	}
	logPath := c.path(region, c.id(at.node), "log")
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
			d.exited <- fmt.Errorf("node %s ended by itself (%v); the end of its log, %s:\n%s", name, err, logPath, tail(logPath))
		}
	}()
	return info, d.await(ctx, "node "+name+" to listen", func() bool {
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
