package main

import (
	"context"
	"encoding/json"
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

	"coffer/cluster/pki"
	"coffer/node"
)

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
