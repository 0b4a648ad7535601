package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"coffer/cluster/pki"
	"coffer/iam"
)

// dev is a running `coffer dev`: the parent of its nodes.
type dev struct {
	config      devConfig
	credentials iam.Credentials // of the account
	operator    *pki.Credentials
	out         io.Writer
	lock        *os.File // of the directory
	client      *http.Client
	nodes       []*devServer // of all regions, in order; never changes

	acting sync.Mutex // one command at a time

	mu       sync.Mutex // guards below, and what devServer and child say
	up       bool       // all was started and told
	stopping bool

	telling   sync.Mutex // guards writes to out
	recording sync.Mutex // guards the files that record writes
}

func runDev(ctx context.Context, out io.Writer, c devConfig) error {
	syscall.Umask(0o077) // all that this process and its nodes make is the user's own
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	lock, err := c.lockDirectory(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()
	_ = os.Remove(c.path(devJSON)) // of a run that was killed
	listener, err := c.listenControl()
	if err != nil {
		return err
	}
	defer listener.Close()
	d, err := newDev(c, out, lock)
	if err != nil {
		return err
	}
	defer os.Remove(c.path(devJSON))
	defer d.stop()
	server := &http.Server{Handler: d.control(), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	defer server.Close()
	if err := d.startAll(ctx); err != nil {
		return err
	}
	d.explain()
	<-ctx.Done()
	return nil
}

func newDev(c devConfig, out io.Writer, lock *os.File) (*dev, error) {
	creds, err := c.prepare()
	if err != nil {
		return nil, err
	}
	dir := c.operatorDir()
	operator, err := pki.Load(filepath.Join(dir, pki.CAFile), filepath.Join(dir, pki.CertFile),
		filepath.Join(dir, pki.KeyFile))
	if err != nil {
		return nil, err
	}
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	d := &dev{config: c, credentials: creds, operator: operator, out: out, lock: lock, client: client}
	for r, region := range c.regions {
		for i := range c.nodes {
			id := c.id(i)
			p := &devServer{region: region, id: id, data: c.nodeDir(region, id), log: c.path(region, id, "log")}
			if c.port != 0 {
				p.port = c.port + r*c.nodes + i
			}
			d.nodes = append(d.nodes, p)
		}
	}
	return d, nil
}

// startAll starts all nodes and waits until they are ready. A node whose data is damaged is told and left out, as long
// as the others are a majority: a cluster is made to lose nodes. Any other end is a mistake that is better mended
// first.
func (d *dev) startAll(ctx context.Context) error {
	d.acting.Lock()
	defer d.acting.Unlock()
	each := func(do func(*dev, context.Context, *devServer) error) error {
		for _, p := range d.nodes {
			if d.look(p).state == nodeEnded {
				continue
			}
			err := do(d, ctx, p)
			if ended := (*endedError)(nil); errors.As(err, &ended) && ended.ch.damaged() {
				d.tellEnded(p, ended.ch)
			} else if err != nil {
				return err
			}
		}
		return nil
	}
	if err := each((*dev).start); err != nil {
		return err
	}
	for _, region := range d.config.regions {
		if views := d.viewRegion(ctx, region); len(runningNames(views)) <= d.config.nodes/2 {
			return errors.New(region + ": " + outlook(views))
		}
	}
	if err := each((*dev).awaitReady); err != nil {
		return err
	}
	d.mu.Lock()
	d.up = true
	d.mu.Unlock()
	return d.record()
}

// record writes dev.json and the operators' configuration as things are now.
func (d *dev) record() error {
	d.recording.Lock()
	defer d.recording.Unlock()
	c := &d.config
	info := devInfo{d.credentials, map[string]devRegion{}}
	for _, name := range c.regions {
		region, peer := devRegion{}, ""
		for _, p := range d.nodes {
			if p.region != name {
				continue
			}
			v := d.look(p)
			region.Endpoints = append(region.Endpoints, v.endpoint)
			region.Nodes = append(region.Nodes, devNode{p.id, v.pid, v.endpoint, p.data, v.state})
			// Operators' commands ask one node: one that answers.
			if v.state == nodeRuns && peer == "" {
				peer = v.peer
			}
		}
		info.Regions[name] = region
		if peer != "" {
			if err := c.writeOperator(name, peer); err != nil {
				return err
			}
		}
	}
	return writeJSON(c.path(devJSON), info)
}

// stopTimeout bounds the wait for a node that was told to stop: it finishes its requests.
const stopTimeout = 30 * time.Second

// stop ends all nodes, with SIGTERM and, if one does not end, SIGKILL.
func (d *dev) stop() {
	d.mu.Lock()
	d.stopping = true // from now on nothing starts
	var children []*child
	for _, p := range d.nodes {
		if p.child != nil {
			children = append(children, p.child)
			_ = p.child.cmd.Process.Signal(syscall.SIGTERM)
			_ = p.child.cmd.Process.Signal(syscall.SIGCONT) // a paused one must go on to stop
		}
	}
	d.mu.Unlock()
	deadline := time.After(stopTimeout)
	for _, ch := range children {
		select {
		case <-ch.done:
		case <-deadline:
			_ = ch.cmd.Process.Kill()
			<-ch.done
		}
	}
}
