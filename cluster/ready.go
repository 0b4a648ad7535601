package cluster

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"coffer/damage"
	"coffer/fsm"
)

// NotReady says why a node can't serve reads and writes. Anyone may read the class; the rest names nodes and files,
// and is for the log and for operators.
type NotReady struct {
	Class string
	Why   error
}

func (e *NotReady) Error() string { return e.Why.Error() }

// Unwrap returns why.
func (e *NotReady) Unwrap() error { return e.Why }

// The classes.
const (
	Stopping  = "stopping"
	Sealed    = "sealed"
	NotFormed = "not formed"
	Removed   = "removed"
	NoLeader  = "no leader"
	Restoring = "restoring"
	Behind    = "behind"
	Damaged   = "damaged"
	Halted    = "halted"
	Disk      = "disk"
	Applying  = "applying"
)

// Ready says why this node can't serve reads and writes at the moment, with a [NotReady]; nil if it can.
func (n *Cluster) Ready() error {
	r := n.raft.Load()
	switch {
	case r == nil:
		if why := n.unformed.Load(); why != nil {
			return &NotReady{NotFormed, errors.New("not part of a cluster yet: " + *why)}
		}
		return &NotReady{NotFormed, errors.New("not part of a cluster yet")}
	case r.State() == raft.Shutdown:
		return &NotReady{Removed, errors.New("this node was removed from the cluster")}
	case n.leader() == "":
		if by := n.deniedBy.Load(); by != nil {
			return &NotReady{NoLeader, fmt.Errorf("no leader, and %s says that this node is no member: it was removed, or the"+
				" cluster was recovered without it. Empty its data directory to have it join anew", *by)}
		}
		if others := n.OtherClusters(); len(others) > 0 {
			return &NotReady{NoLeader,
				fmt.Errorf("no leader, and there are nodes of %d other clusters of this region: stop those"+
					" that are not meant", len(others))}
		}
		return &NotReady{NoLeader, errors.New("no leader: fewer than a majority of the nodes reach each other")}
	case n.restoring.doubt.Load():
		return &NotReady{Restoring, errRestoring}
	case n.config.Store.Applied() == 0 || !n.caughtUp.Load():
		return &NotReady{Behind, errors.New("the region's latest state has not reached this node yet")}
	}
	switch err := n.config.Store.Err(); {
	case err == nil:
		return n.applies.err()
	case errors.Is(err, damage.Err):
		return &NotReady{Damaged, err}
	case errors.Is(err, fsm.ErrHalted):
		return &NotReady{Halted, err}
	default:
		return &NotReady{Disk, err}
	}
}
