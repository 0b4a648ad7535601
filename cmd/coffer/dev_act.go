package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"
)

// action is what a command does to a node.
type action struct {
	from []nodeState // it is for nodes in one of these
	do   func(*dev, context.Context, *devServer) error
	says string // what the node has become
}

var actions = map[string]action{
	verbKill: {
		[]nodeState{nodeRuns, nodePaused}, (*dev).kill,
		"is killed, as a crash would end it",
	},
	verbStop: {
		[]nodeState{nodeRuns, nodePaused}, (*dev).terminate,
		"has stopped: it finished its requests and handed over what it led",
	},
	verbStart: {
		[]nodeState{nodeStopped, nodeKilled, nodeEnded}, (*dev).startAgain,
		"runs again, at the address it had",
	},
	verbPause: {
		[]nodeState{nodeRuns}, (*dev).pause,
		"is paused: connections to it open, and nothing is answered",
	},
	verbResume: {
		[]nodeState{nodePaused}, (*dev).resume,
		"goes on",
	},
}

// act carries out a command and returns what to tell the person who gave it.
func (d *dev) act(ctx context.Context, verb, name string) (string, error) {
	p, err := d.find(name)
	if err != nil {
		return "", err
	}
	a, ok := actions[verb]
	if !ok {
		return "", fmt.Errorf("%q is nothing that can be done to a node", verb)
	}
	d.acting.Lock()
	defer d.acting.Unlock()
	now := d.look(p)
	if !slices.Contains(a.from, now.state) {
		return "", fmt.Errorf("node %s is %s: `%s` is for one that is %s", p, now.state, verb, anyOf(a.from))
	}
	led := leader(d.viewRegion(ctx, p.region))
	// What has begun is finished and recorded, also if the person who asked for it no longer waits.
	if err := errors.Join(a.do(d, context.WithoutCancel(ctx), p), d.record()); err != nil {
		return "", err
	}
	d.tell("node %s %s", p, a.says)
	views := d.settle(ctx, p)
	var b strings.Builder
	fmt.Fprintf(&b, "Node %s %s.", p, a.says)
	if leads := leader(views); led == p && leads != nil && leads != p {
		fmt.Fprintf(&b, " It led the region; now %s does.", leads.id)
	}
	fmt.Fprintf(&b, "\n%s\n", outlook(views))
	b.WriteString(d.advice(p, views))
	return b.String(), nil
}

// advice is what a person may want to type after a command about p.
func (d *dev) advice(p *devServer, views []nodeView) string {
	undo := map[nodeState]string{
		nodeKilled: verbStart, nodeStopped: verbStart, nodeEnded: verbStart, nodePaused: verbResume,
	}[d.look(p).state]
	if undo == "" {
		return ""
	}
	var b strings.Builder
	if i := slices.IndexFunc(views, func(v nodeView) bool { return v.state == nodeRuns }); i >= 0 {
		fmt.Fprintf(&b,
			"\nIts endpoint is of no use now. Where a shell uses it, take another one, as a load balancer would:\n"+
				"  %s\n", exports(views[i].endpoint))
	}
	fmt.Fprintf(&b, "\nBring it back:\n  %s %s %s\n", d.config.self, undo, d.short(p))
	return b.String()
}

// find returns the node that a person means.
func (d *dev) find(name string) (*devServer, error) {
	var found []*devServer
	var known []string
	for _, p := range d.nodes {
		if name == p.id || name == p.region+"/"+p.id {
			found = append(found, p)
		}
		known = append(known, d.short(p))
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("node %q: wanted one of %s", name, strings.Join(known, ", "))
	}
	return found[0], nil
}

func anyOf(states []nodeState) string {
	var names []string
	for _, s := range states {
		names = append(names, string(s))
	}
	return strings.Join(names, " or ")
}

func (d *dev) kill(_ context.Context, p *devServer) error {
	ch, err := d.end(p, nodeKilled, syscall.SIGKILL)
	if err != nil {
		return err
	}
	<-ch.done
	return nil
}

func (d *dev) terminate(ctx context.Context, p *devServer) error {
	ch, err := d.end(p, nodeStopped, syscall.SIGTERM, syscall.SIGCONT) // a paused one must go on to stop
	if err != nil {
		return err
	}
	select {
	case <-ch.done:
		return nil
	case <-time.After(stopTimeout):
		return fmt.Errorf("node %s was told to stop and has not within %v: `%s %s %s` ends it; its log is %s",
			p, stopTimeout, d.config.self, verbKill, d.short(p), p.log)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// end marks the node's process as told to end and sends it signals.
func (d *dev) end(p *devServer, state nodeState, signals ...syscall.Signal) (*child, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p.state == nodeEnded {
		return nil, fmt.Errorf("node %s has just ended by itself", p)
	}
	p.child.told, p.state = true, state
	for _, s := range signals {
		_ = p.child.cmd.Process.Signal(s) // one that has ended has done what is wanted
	}
	return p.child, nil
}

func (d *dev) startAgain(ctx context.Context, p *devServer) error {
	err := d.start(ctx, p)
	if ended := (*endedError)(nil); errors.As(err, &ended) && ended.ch.damaged() {
		return fmt.Errorf("%w\n\nIt will not start with damaged data. Set the data aside, and it gets everything from "+
			"the others:\n  mv %s %s\n  %s %s %s", err, shellQuote(p.data), shellQuote(p.data+".damaged"),
			d.config.self, verbStart, d.short(p))
	}
	return err
}

func (d *dev) pause(_ context.Context, p *devServer) error {
	return d.signal(p, syscall.SIGSTOP, nodePaused)
}

func (d *dev) resume(_ context.Context, p *devServer) error {
	return d.signal(p, syscall.SIGCONT, nodeRuns)
}

func (d *dev) signal(p *devServer, s syscall.Signal, state nodeState) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := p.child.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("node %s: %w", p, err)
	}
	p.state = state
	return nil
}

// settleTimeout bounds the wait for what follows a command: an election, a node that catches up.
const settleTimeout = 15 * time.Second

// settle waits until the region of p works again, if a majority is there for it, and returns what it is like.
func (d *dev) settle(ctx context.Context, p *devServer) []nodeView {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for {
		views := d.viewRegion(ctx, p.region)
		if settled(views) {
			return views
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return views
		}
	}
}
