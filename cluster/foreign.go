package cluster

import (
	"context"
	"maps"
	"slices"
	"time"
)

// foreignInterval is how often a node looks for other clusters of its region.
const foreignInterval = 5 * time.Second

// watchForeign looks for nodes of another cluster of this region, and shouts: their writes and this cluster's will
// never meet. Gossip tells of them; that they are there is asked for over TLS.
func (n *Cluster) watchForeign(ctx context.Context) {
	every(ctx, foreignInterval, func() {
		own := n.ID()
		if own == "" {
			return // form does its own asking
		}
		found := n.formedNodes(ctx)
		delete(found, own)
		for _, nodes := range found {
			slices.Sort(nodes)
		}
		n.foreign.Store(&found)
		for id, nodes := range found {
			n.log.Error("there is another cluster of this region: clients that reach it read and write other secrets. Stop the"+
				" one that is not meant, and empty the data directories of its nodes", "cluster", own, "other", id, "nodes", nodes)
		}
	})
}

// OtherClusters are the nodes of other clusters of this region, by the clusters' ids. There should be none.
func (n *Cluster) OtherClusters() map[string][]string {
	if found := n.foreign.Load(); found != nil {
		return maps.Clone(*found)
	}
	return nil
}
