package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"coffer/cluster"
	"coffer/damage"
)

// damagedFile marks a data directory that must not be used again.
const damagedFile = "DAMAGED"

// removedFile marks the data directory of a node that was removed from its cluster.
const removedFile = "REMOVED"

// checkMarks refuses a data directory that must not be served from.
func checkMarks(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, removedFile)); err == nil {
		return cluster.ErrRemoved
	}
	what, err := os.ReadFile(filepath.Join(dir, damagedFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return fmt.Errorf("%w: the data of this node was found damaged and it must be rebuilt from the others: remove the "+
		"contents of its data directory and start it again; it then takes everything from the leader anew. A cluster of "+
		"one node is rebuilt from a snapshot. What was found: %s", damage.Err, what)
}

// leaveTimeout bounds how long requests in flight may take while a node leaves service.
const leaveTimeout = time.Second

// leave ends the node's service, since its data must not be served any more.
func (n *Node) leave(why error) {
	select {
	case n.leaving <- why:
	default: // it leaves already
	}
}

// wasRemoved marks the data directory and ends the node's service.
func (n *Node) wasRemoved(why error) {
	what := fmt.Sprintf("%s: %v\n", n.options.Now().UTC().Format(time.RFC3339), why)
	if err := os.WriteFile(filepath.Join(n.config.Data, removedFile), []byte(what), 0o600); err != nil {
		why = errors.Join(why, err) // the next start finds out again
	}
	n.leave(why)
}

// stopServing refuses new requests and ends those in flight soon.
func (n *Node) stopServing() error {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	if err := n.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}
