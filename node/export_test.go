package node

import (
	"context"

	"coffer/cluster"
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
