// Package testcluster runs real `coffer server` processes on loopback for tests and benchmarks: it makes
// their keys and certificates, starts, pauses, kills and replaces nodes, and hands out SDK clients.
package testcluster

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"coffer/cluster/pki"
	"coffer/iam"
	"coffer/kms/rootkey"
)

// Region is the region of a cluster that is alone.
const Region = "us-east-1"

// Cluster is a region's nodes, running or not.
type Cluster struct {
	Dir         string
	Region      string
	Binary      string
	Credentials iam.Credentials
	Nodes       []*Node
	extraArgs   []string

	ca       string   // directory of the authority
	operator string   // directory of the operator's certificate
	regions  *Regions // nil for one alone
}

// Node is one node and its process.
type Node struct {
	ID       string
	Endpoint string
	Data     string
	Log      string
	Env      []string // besides this process's
	Binary   string   // of the next starts; the cluster's if empty

	cluster              *Cluster
	listen, peer, gossip string
	host                 string // address of its own, if it has one
	regionGossip         string
	proxy                *Proxy // that other regions reach the peer port through; nil for none
	rootKey              string
	expect               int      // nodes that form the cluster; 0 joins
	wrap                 []string // what the process runs under

	mu   sync.Mutex // guards below
	cmd  *exec.Cmd
	done chan struct{}
}

// Build builds the coffer binary into dir, with the race detector if the test has it.
func Build(ctx context.Context, dir string) (string, error) { return BuildWith(ctx, dir) }

// BuildWith is Build with build tags; any makes it need cgo.
func BuildWith(ctx context.Context, dir string, tags ...string) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "coffer")
	args, cgo := []string{"build", "-o", binary}, "0"
	if len(tags) > 0 {
		args, cgo = append(args, "-tags", strings.Join(tags, ",")), "1"
	}
	if raceDetector {
		args, cgo = append(args, "-race"), "1"
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/coffer")...)
	cmd.Dir = filepath.Dir(strings.TrimSpace(string(root)))
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build coffer: %w\n%s", err, out)
	}
	return binary, nil
}

// New prepares a cluster of nodes in dir, and starts none. extraArgs go to every `coffer server`.
func New(dir, binary string, nodes int, extraArgs ...string) (*Cluster, error) {
	c := &Cluster{
		Dir: dir, Region: Region, Binary: binary, Credentials: iam.GenerateCredentials("123456789012"), extraArgs: extraArgs,
	}
	c.ca, c.operator = c.path("ca"), c.path("operator")
	if err := errors.Join(
		pki.CreateAuthority(c.ca, time.Now()),
		pki.Issue(c.ca, c.operator, pki.Identity{Role: pki.Operator, Region: Region, ID: "test"}, time.Now()),
	); err != nil {
		return nil, err
	}
	return c, c.prepare(nodes)
}

// prepare makes the cluster's keys and nodes.
func (c *Cluster) prepare(nodes int) error {
	creds, err := json.Marshal(c.Credentials)
	if err != nil {
		return err
	}
	if err := errors.Join(
		os.MkdirAll(c.Dir, 0o700),
		os.WriteFile(c.path("root-key"), rootkey.Generate(), 0o600),
		os.WriteFile(c.path("gossip-key"), rootkey.Generate(), 0o600),
		os.WriteFile(c.path("credentials"), creds, 0o600),
	); err != nil {
		return err
	}
	for range nodes {
		n, err := c.Add()
		if err != nil {
			return err
		}
		n.expect = nodes
	}
	return nil
}

func (c *Cluster) path(parts ...string) string {
	return filepath.Join(append([]string{c.Dir}, parts...)...)
}

// Add prepares one more node, which joins.
func (c *Cluster) Add() (*Node, error) {
	n := &Node{ID: fmt.Sprintf("n%d", len(c.Nodes)+1), cluster: c}
	n.rootKey = c.path("root-key")
	n.Data, n.Log = c.path(n.ID, "data"), c.path(n.ID, "log")
	if err := pki.Issue(c.ca, c.path(n.ID), pki.Identity{Role: pki.Node, Region: c.Region, ID: n.ID},
		time.Now()); err != nil {
		return nil, err
	}
	for _, addr := range []*string{&n.listen, &n.peer, &n.gossip, &n.regionGossip} {
		var err error
		if *addr, err = FreeAddr(); err != nil {
			return nil, err
		}
	}
	n.Endpoint = "http://" + n.listen
	c.Nodes = append(c.Nodes, n)
	return n, nil
}

// nextPort is where the search for free ports goes on: below the ports that the kernel gives to connections, and
// somewhere else in each test process.
var nextPort atomic.Int32

func init() { nextPort.Store(10_000 + rand.Int32N(20_000)) }

// FreeAddr finds a port that nobody uses, and does not find it again.
func FreeAddr() (string, error) {
	var last error
	for range 1000 {
		port := 10_000 + int(nextPort.Add(1))%22_000
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		l, err := net.Listen("tcp", addr)
		if err == nil {
			return addr, l.Close()
		}
		last = err
	}
	return "", fmt.Errorf("no free port: %w", last)
}

// Start starts all nodes and waits until they are ready.
func (c *Cluster) Start(ctx context.Context) error {
	for _, n := range c.Nodes {
		if err := n.Start(); err != nil {
			return err
		}
	}
	return c.AwaitReady(ctx)
}

// AwaitReady waits until every node is ready.
func (c *Cluster) AwaitReady(ctx context.Context) error {
	return Eventually(ctx, "all nodes to be ready", func() error {
		for _, n := range c.Nodes {
			if err := n.ended(); err != nil {
				return err
			}
		}
		for _, n := range c.Nodes {
			if err := n.ready(); err != nil {
				return err
			}
		}
		return nil
	})
}

// OperatorDir has the operator's certificate.
func (c *Cluster) OperatorDir() string { return c.operator }

// Close kills what still runs.
func (c *Cluster) Close() {
	for _, n := range c.Nodes {
		n.Kill()
	}
}

// Leader finds the node that leads.
func (c *Cluster) Leader(ctx context.Context) (*Node, error) {
	var leader *Node
	err := Eventually(ctx, "a leader", func() error {
		for _, n := range c.Nodes {
			if v, err := n.Metric("coffer_raft_leader"); err == nil && v == "1" {
				leader = n
				return nil
			}
		}
		return errors.New("no node leads")
	})
	return leader, err
}

// hopeless is an error that waiting will not mend.
type hopeless struct{ error }

// Eventually calls check until it succeeds; when ctx ends the last error is the answer.
func Eventually(ctx context.Context, what string, check func() error) error {
	for {
		err := check()
		if err == nil || errors.As(err, &hopeless{}) {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("waited for %s: %w", what, err)
		}
	}
}

// Start starts the node's process.
func (n *Node) Start() error {
	c := n.cluster
	args := append(append([]string{}, n.wrap...), cmp.Or(n.Binary, c.Binary), "server")
	args = append(append(args, n.identity()...), "--log-level", "debug",
		"--listen", n.listen, "--peer", n.peer, "--gossip", n.gossip, "--gossip-key", c.path("gossip-key"),
		"--root-key", n.rootKey, "--root-credentials", c.path("credentials"), "--bootstrap-expect", fmt.Sprint(n.expect))
	for _, other := range c.Nodes {
		if other != n && n.expect != 1 {
			args = append(args, "--join", other.gossip)
		}
	}
	if c.regions != nil {
		args = append(args, c.regions.args(n)...)
	}
	args = append(args, c.extraArgs...)
	log, err := os.OpenFile(n.Log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), n.Env...)
	done := make(chan struct{})
	if err := cmd.Start(); err != nil {
		_ = log.Close()
		return err
	}
	n.mu.Lock()
	n.cmd, n.done = cmd, done
	n.mu.Unlock()
	go func() {
		_ = cmd.Wait() // how it ended is in ProcessState
		_ = log.Close()
		close(done)
	}()
	return nil
}

func (n *Node) process() (*exec.Cmd, chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cmd, n.done
}

// PID is the node's process id.
func (n *Node) PID() int {
	cmd, _ := n.process()
	return cmd.Process.Pid
}

// Signal sends a signal to the node's process.
func (n *Node) Signal(s syscall.Signal) {
	if cmd, _ := n.process(); cmd != nil {
		_ = cmd.Process.Signal(s) // a process that has ended needs none
	}
}

// Kill ends the node at once, as a crash does, and waits for its end.
func (n *Node) Kill() {
	n.Signal(syscall.SIGCONT)
	n.Signal(syscall.SIGKILL)
	n.Wait()
}

// Stop ends the node in order.
func (n *Node) Stop() {
	n.Signal(syscall.SIGTERM)
	n.Wait()
}

// Wait waits for the process's end and answers its exit code.
func (n *Node) Wait() int {
	cmd, done := n.process()
	if cmd == nil {
		return 0
	}
	<-done
	return cmd.ProcessState.ExitCode()
}

// Exited is closed when the process ends.
func (n *Node) Exited() <-chan struct{} {
	_, done := n.process()
	return done
}

// Wipe deletes the stopped node's data.
func (n *Node) Wipe() error { return os.RemoveAll(n.Data) }

// AwaitReady waits until the node serves reads and writes.
func (n *Node) AwaitReady(ctx context.Context) error {
	return Eventually(ctx, n.ID+" to be ready", func() error {
		if err := n.ended(); err != nil {
			return err
		}
		return n.ready()
	})
}

func (n *Node) ready() error {
	status, body, err := n.Get("/readyz")
	if err == nil && status != http.StatusOK {
		err = errors.New(n.ID + ": " + body)
	}
	return err
}

// ended is an error once the node's process has ended.
func (n *Node) ended() error {
	select {
	case <-n.Exited():
		return hopeless{fmt.Errorf("%s has ended; its log:\n%s", n.ID, n.LogTail())}
	default:
		return nil
	}
}

var probe = &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// Get fetches a path of the client port.
func (n *Node) Get(path string) (status int, body string, err error) {
	resp, err := probe.Get(n.Endpoint + path)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(resp.Body)
	return resp.StatusCode, b.String(), err
}

// Metric reads one metric; its labels, if it has any, are part of the name.
func (n *Node) Metric(name string) (string, error) {
	_, body, err := n.Get("/metrics")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("no metric %s", name)
}

// Race is what the race detector first found in the node's process, empty if nothing.
func (n *Node) Race() string {
	b, err := os.ReadFile(n.Log)
	if err != nil {
		return ""
	}
	if at := bytes.Index(b, []byte("DATA RACE")); at >= 0 {
		return string(b[at:min(len(b), at+4000)])
	}
	return ""
}

// LogTail is the end of the node's log.
func (n *Node) LogTail() string {
	b, err := os.ReadFile(n.Log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4000):])
}

// Operate runs an operator's command of the binary against the node.
func (n *Node) Operate(ctx context.Context, args ...string) (string, error) {
	return n.OperateWith(ctx, "", args...)
}

// identity are the flags that say whose data and certificate a command works with.
func (n *Node) identity() []string {
	c := n.cluster
	return []string{"--data", n.Data, "--ca", c.path(n.ID, pki.CAFile), "--cert", c.path(n.ID, pki.CertFile),
		"--key", c.path(n.ID, pki.KeyFile)}
}

// Recover runs `coffer cluster recover` on the node's data.
func (n *Node) Recover(ctx context.Context, args ...string) (string, error) {
	args = append(append([]string{"cluster", "recover"}, n.identity()...), args...)
	out, err := exec.CommandContext(ctx, n.cluster.Binary, args...).CombinedOutput()
	return string(out), err
}

// OperatorFlags are those with which an operator's command reaches the node.
func (n *Node) OperatorFlags() []string {
	c := n.cluster
	return []string{"--node", n.peer, "--region", c.Region, "--ca", filepath.Join(c.operator, pki.CAFile), "--cert",
		filepath.Join(c.operator, pki.CertFile), "--key", filepath.Join(c.operator, pki.KeyFile)}
}

// OperateWith is Operate with a text on standard input.
func (n *Node) OperateWith(ctx context.Context, input string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, cmp.Or(n.Binary, n.cluster.Binary), append(args, n.OperatorFlags()...)...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// UseKeysOf gives this cluster the root key and root credentials of another, before it starts.
func (c *Cluster) UseKeysOf(other *Cluster) error {
	c.Credentials = other.Credentials
	for _, name := range []string{"root-key", "credentials"} {
		b, err := os.ReadFile(other.path(name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(c.path(name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// UseGossipKeyOf gives this cluster the gossip key of another, before it starts.
func (c *Cluster) UseGossipKeyOf(other *Cluster) error {
	b, err := os.ReadFile(other.path("gossip-key"))
	if err != nil {
		return err
	}
	return os.WriteFile(c.path("gossip-key"), b, 0o600)
}

// UseRootKey makes the node's next starts use a root key, named as in the configuration.
func (n *Node) UseRootKey(spec string) { n.rootKey = spec }

// NextRootKey makes a root key that the node may be rotated to: a file like that of its cluster, with a number.
func (n *Node) NextRootKey(number int) (path string, err error) {
	path = fmt.Sprintf("%s-%d", n.cluster.path("root-key"), number)
	return path, os.WriteFile(path, rootkey.Generate(), 0o600)
}

// UseRootKeyOf makes the node's next starts use the root key of a cluster.
func (n *Node) UseRootKeyOf(c *Cluster) { n.rootKey = c.path("root-key") }

// PeerAddr is the node's peer port.
func (n *Node) PeerAddr() string { return n.peer }

// GossipAddr is the node's gossip port.
func (n *Node) GossipAddr() string { return n.gossip }
