// Package cluster runs one region's Raft group: it forms it by gossip, brings nodes in and out,
// replicates commands, and answers "who leads" and "has this node applied all that was acknowledged".
//
// Nodes are named by their certificates, and Raft knows them by these names only: addresses come from
// gossip, so a node may return at another one. Everything between nodes goes over the peer port's
// mutual TLS; the protocol negotiated there tells Raft from node-to-node calls.
package cluster
