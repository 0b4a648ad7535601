package node

import (
	"context"

	"coffer/cluster"
	"coffer/kms/rootkey"
)

// CutOff is what a node does before it ends behind a hung disk.
var CutOff = cutOff

// Repeat does a background job at each tick.
var Repeat = repeat

// Due does what is due on the leader.
func (n *Node) Due(ctx context.Context) {
	n.purge(ctx)
	n.advanceKeys(ctx)
}

// Cluster is the node's part in its cluster.
func (n *Node) Cluster() *cluster.Cluster { return n.cluster }

// Endpoint is where clients reach the node.
func (n *Node) Endpoint() string { return n.config.Endpoint }

// Offered opens a root key that the leader offers.
func (n *Node) Offered(ctx context.Context, spec string) (id string, err error) {
	return n.roots.offered(ctx, spec)
}

// RotateRoot puts the region's keys under a root key, as a leader does, and says that nodes reach it at spec.
func (n *Node) RotateRoot(ctx context.Context, to rootkey.Provider, spec string) error {
	_, err := n.keys.RotateRoot(ctx, to, spec)
	return err
}

// FollowRoot looks for the root key that the region's keys are under.
func (n *Node) FollowRoot(ctx context.Context) { n.roots.follow(ctx) }

// Sealed says why the node can't unwrap the region's keys.
func (n *Node) Sealed() error { return n.roots.sealed() }

// RootKeyFile is the root key of the node's configuration.
func (n *Node) RootKeyFile() string { return n.config.RootKey }
