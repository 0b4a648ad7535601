package testcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"coffer/cluster/pki"
	"coffer/iam"
	"coffer/kms/rootkey"
)

// Regions are the clusters of several regions, which find each other.
type Regions struct {
	Dir      string
	Names    []string
	Clusters []*Cluster // in the order of Names
}

// NewRegions prepares a cluster of nodes for each region, and starts none. extraArgs go to every `coffer server`.
func NewRegions(dir, binary string, names []string, nodes int, extraArgs ...string) (*Regions, error) {
	r := &Regions{Dir: dir, Names: names}
	ca, operator := filepath.Join(dir, "ca"), filepath.Join(dir, "operator")
	if err := errors.Join(
		pki.CreateAuthority(ca, time.Now()),
		pki.Issue(ca, operator, pki.Identity{Role: pki.Operator, Region: names[0], ID: "test"}, time.Now(), names[1:]...),
		os.WriteFile(r.gossipKey(), rootkey.Generate(), 0o600),
	); err != nil {
		return nil, err
	}
	credentials := iam.GenerateCredentials("123456789012")
	for _, name := range names {
		c := &Cluster{
			Dir: filepath.Join(dir, name), Region: name, Binary: binary, Credentials: credentials,
			extraArgs: slices.Clone(extraArgs), ca: ca, operator: operator, regions: r,
		}
		if err := c.prepare(nodes); err != nil {
			return nil, err
		}
		r.Clusters = append(r.Clusters, c)
	}
	return r, nil
}

func (r *Regions) gossipKey() string { return filepath.Join(r.Dir, "region-gossip-key") }

// args are what a node needs to find the other regions: the address of one node of each.
func (r *Regions) args(n *Node) []string {
	args := []string{"--region-gossip", n.regionGossip, "--region-gossip-key", r.gossipKey()}
	for _, c := range r.Clusters {
		if c != n.cluster {
			args = append(args, "--region-join", c.Nodes[0].regionGossip)
		}
	}
	if n.proxy != nil {
		args = append(args, "--region-peer-advertise", n.proxy.Addr())
	}
	return args
}

// Of is the cluster of a region.
func (r *Regions) Of(region string) *Cluster { return r.Clusters[slices.Index(r.Names, region)] }

// All are the nodes of all regions.
func (r *Regions) All() (nodes []*Node) {
	for _, c := range r.Clusters {
		nodes = append(nodes, c.Nodes...)
	}
	return nodes
}

// Start starts all nodes, waits until they are ready, and until the regions know each other.
func (r *Regions) Start(ctx context.Context) error {
	for _, n := range r.All() {
		if err := n.Start(); err != nil {
			return err
		}
	}
	for _, c := range r.Clusters {
		if err := c.AwaitReady(ctx); err != nil {
			return err
		}
	}
	return r.AwaitConnected(ctx)
}

// AwaitConnected waits until each region replicates to each other one.
func (r *Regions) AwaitConnected(ctx context.Context) error {
	return Eventually(ctx, "the regions to know each other", func() error {
		for _, c := range r.Clusters {
			leader, err := c.Leader(ctx)
			if err != nil {
				return err
			}
			for _, other := range r.Names {
				if other == c.Region {
					continue
				}
				if down, err := leader.Metric(fmt.Sprintf("coffer_replication_region_down{region=%q}", other)); err != nil ||
					down != "0" {
					return fmt.Errorf("%s does not replicate to %s yet", c.Region, other)
				}
			}
		}
		return nil
	})
}

// Close kills what still runs.
func (r *Regions) Close() {
	for _, c := range r.Clusters {
		c.Close()
	}
	for _, n := range r.All() {
		if n.proxy != nil {
			n.proxy.Close()
		}
	}
}

// Isolate is Cluster.Isolate for the nodes of all regions.
func (r *Regions) Isolate() (remove func(), err error) { return isolate(r.Clusters...) }

// Cut cuts a region off from the others; its nodes and clients still reach each other.
func (r *Regions) Cut(region string) error { return r.cut(region, true, true) }

// CutIncoming drops what other regions send to a region, and nothing that it sends.
func (r *Regions) CutIncoming(region string) error { return r.cut(region, true, false) }

func (r *Regions) cut(region string, in, out bool) error {
	for _, n := range r.Of(region).Nodes {
		for _, other := range r.All() {
			if other.cluster == n.cluster {
				continue
			}
			if err := n.cutFrom(other.host, in, out); err != nil {
				return err
			}
		}
	}
	return nil
}

// Heal ends a region's cuts.
func (r *Regions) Heal(region string) error {
	for _, n := range r.Of(region).Nodes {
		if err := n.Heal(); err != nil {
			return err
		}
	}
	return nil
}

// UseProxies puts a proxy before each node's peer port, as other regions reach it. Call it before the first Start.
func (r *Regions) UseProxies() error {
	for _, n := range r.All() {
		var err error
		if n.proxy, err = NewProxy(n.peer); err != nil {
			return err
		}
	}
	return nil
}

// Proxy is what other regions reach the node through, if UseProxies was called.
func (n *Node) Proxy() *Proxy { return n.proxy }
