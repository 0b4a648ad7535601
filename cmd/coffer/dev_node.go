package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"context"
	"encoding/json"

	"coffer/cluster/pki"
	"coffer/node"
)

// nodeState is what became of a node.
type nodeState string

const (
	nodeRuns    nodeState = "running"
	nodePaused  nodeState = "paused"
	nodeStopped nodeState = "stopped" // in order, by command
	nodeKilled  nodeState = "killed"  // by command
	nodeEnded   nodeState = "ended"   // by itself, or by somebody else's signal
)

// devServer is one node of `coffer dev`.
type devServer struct {
	region, id string
	port       int    // of clients, before the first start; 0 picks one
	data       string // directory
	log        string // file

	// Guarded by dev.mu.
	info  node.Info // of the last start: the next one takes its ports again; zero before the first
	state nodeState // "" before the first start
	child *child    // of the last start
}

// child is the operating system's process of one start of a node.
type child struct {
	cmd  *exec.Cmd
	told bool          // to end: guarded by dev.mu
	done chan struct{} // closed when it has ended; err is set then
	err  error
}

func (p *devServer) String() string { return p.id + " of " + p.region }

// short is what a person types for the node.
func (d *dev) short(p *devServer) string {
	if len(d.config.regions) == 1 {
		return p.id
	}
	return p.region + "/" + p.id
}

// arguments are the node's command line.
func (d *dev) arguments(p *devServer) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := &d.config
	pkiDir := c.certDir(p.region, p.id)
	again := func(addr string) string {
		if addr == "" {
			return "127.0.0.1:0"
		}
		return addr
	}
	listen := net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port))
	if p.info.Endpoint != "" {
		listen = strings.TrimPrefix(p.info.Endpoint, "http://")
	}
	args := []string{
		"server", "--stop-with-parent", "--log-level", c.logLevel, "--data", p.data,
		"--ca", filepath.Join(pkiDir, pki.CAFile),
		"--cert", filepath.Join(pkiDir, pki.CertFile), "--key", filepath.Join(pkiDir, pki.KeyFile),
		"--listen", listen, "--peer", again(p.info.Peer), "--gossip", again(p.info.Gossip),
		"--gossip-key", c.path(p.region, gossipKeyFile), "--root-key", c.path(p.region, rootKeyFile),
		"--root-credentials", c.path(rootCredsFile), "--bootstrap-expect", strconv.Itoa(c.nodes),
	}
	if len(c.regions) > 1 {
		args = append(args, "--region-gossip", again(p.info.Regions), "--region-gossip-key", c.path(regionGossipKey))
	}
	// Whoever was started already is somebody to ask: any of them may be down.
	for _, other := range d.nodes {
		switch {
		case other == p || other.info.Gossip == "":
		case other.region == p.region:
			args = append(args, "--join", other.info.Gossip)
		default:
			args = append(args, "--region-join", other.info.Regions)
		}
	}
	return args
}

// start runs a node and returns when it listens.
func (d *dev) start(ctx context.Context, p *devServer) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(p.data, 0o700); err != nil {
		return err
	}
	_ = os.Remove(filepath.Join(p.data, node.InfoFile))
	log, err := os.OpenFile(p.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	ch := &child{cmd: exec.Command(self, d.arguments(p)...), done: make(chan struct{})}
	ch.cmd.Stdout, ch.cmd.Stderr = log, log
	ch.cmd.Env = append(os.Environ(), "COFFER_CONFIG=")
	ch.cmd.ExtraFiles = []*os.File{d.lock} // held until the node ends, even if this process is killed
	// Ctrl-C is for this process, which stops the nodes in order.
	ch.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := ch.cmd.StdinPipe() // its end tells the child that this process has ended
	if err != nil {
		return err
	}
	if err := d.launch(p, ch); err != nil {
		return errors.Join(err, stdin.Close())
	}
	go d.watch(p, ch)
	var info node.Info
	err = d.await(ctx, p, ch, "to listen", func() bool {
		b, err := os.ReadFile(filepath.Join(p.data, node.InfoFile))
		return err == nil && json.Unmarshal(b, &info) == nil
	})
	if err != nil {
		return err
	}
	d.mu.Lock()
	p.info = info
	d.mu.Unlock()
	return nil
}

// launch starts the process, unless all nodes are being stopped.
func (d *dev) launch(p *devServer, ch *child) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopping {
		return errors.New("coffer dev is stopping")
	}
	if err := ch.cmd.Start(); err != nil {
		return err
	}
	p.state, p.child = nodeRuns, ch
	return nil
}

// watch waits for a child's end, and says so if nobody told it to end.
func (d *dev) watch(p *devServer, ch *child) {
	ch.err = ch.cmd.Wait()
	d.mu.Lock()
	if !ch.told {
		p.state = nodeEnded
	}
	unexpected := !ch.told && !d.stopping && d.up // before, whoever waits for the node says so
	d.mu.Unlock()
	close(ch.done)
	if unexpected {
		d.tellEnded(p, ch)
		if err := d.record(); err != nil {
			d.tell("%v", err)
		}
	}
}

// await polls until ok, the child's end, or startTimeout.
func (d *dev) await(ctx context.Context, p *devServer, ch *child, what string, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for !ok() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ch.done:
			return &endedError{p, ch}
		case <-ctx.Done():
			return fmt.Errorf("waited for node %s %s: %w; its log is %s", p, what, ctx.Err(), p.log)
		}
	}
	return nil
}

const startTimeout = 60 * time.Second

// awaitReady waits until the node serves reads and writes.
func (d *dev) awaitReady(ctx context.Context, p *devServer) error {
	endpoint := d.look(p).endpoint
	return d.await(ctx, p, p.child, "to be ready", func() bool {
		resp, err := d.client.Get(endpoint + "/readyz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// endedError says that a node ended by itself, and what it said last.
type endedError struct {
	p  *devServer
	ch *child
}

func (e *endedError) Error() string {
	return fmt.Sprintf("node %s ended by itself (%s); the end of its log, %s:\n%s",
		e.p, e.ch.reason(), e.p.log, tail(e.p.log))
}

// reason is how a process ended.
func (ch *child) reason() string {
	switch {
	case ch.damaged():
		return ch.err.Error() + ": its data is damaged"
	case ch.err == nil:
		return "exit status 0"
	}
	return ch.err.Error()
}

func (ch *child) damaged() bool { return ch.cmd.ProcessState.ExitCode() == exitDamaged }

// tail is the last lines of a log.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return "  " + strings.Join(lines[max(0, len(lines)-10):], "\n  ")
}
