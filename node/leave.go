package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"coffer/cluster"
	"coffer/cluster/raftlog"
	"coffer/damage"
	"coffer/fsm"
)

// damagedFile marks a data directory that must not be used again.
const damagedFile = "DAMAGED"

// removedFile marks the data directory of a node that was removed from its cluster.
const removedFile = "REMOVED"

// rebuildFile marks the data directory of a node whose state differs from the others': the next start keeps what there
// is aside, and takes everything from the leader anew.
const rebuildFile = "REBUILD"

// asidePrefix is how directories are named that hold what was kept aside.
const asidePrefix = "damaged-"

// ErrRebuild says that the node is to be started again at once, to take everything from the leader anew.
var ErrRebuild = errors.New("this node starts again, to take everything from the leader anew")

// setAside moves what this node stored out of the way, if it is marked so. Interrupted, it goes on at the next start.
// What was kept aside before is deleted: one copy serves whoever wants to know what happened.
func setAside(dir string, now time.Time) error {
	mark := filepath.Join(dir, rebuildFile)
	if _, err := os.Stat(mark); errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	to := filepath.Join(dir, asidePrefix+now.UTC().Format("20060102T150405Z"))
	stored := func(name string) bool {
		for _, file := range []string{fsm.File, raftlog.File, raftlog.StateFile, "snapshots"} {
			if strings.HasPrefix(name, file) {
				return true
			}
		}
		return false
	}
	var old, move []string
	for _, e := range entries {
		switch path := filepath.Join(dir, e.Name()); {
		case strings.HasPrefix(e.Name(), asidePrefix):
			old = append(old, path)
		case stored(e.Name()):
			move = append(move, path)
		}
	}
	if slices.Contains(move, filepath.Join(dir, fsm.File)) {
		for _, path := range old { // and not what an interrupted move has brought there
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	// The state first: if this ends here, what is left of the log says what was there, and the mark that it goes on.
	slices.SortFunc(move, func(a, b string) int { return strings.Compare(filepath.Base(b), filepath.Base(a)) })
	for _, path := range move {
		if err := os.Rename(path, filepath.Join(to, filepath.Base(path))); err != nil {
			return err
		}
	}
	return os.Remove(mark)
}

// diverged marks the data directory and ends the node's service, to have it rebuilt.
func (n *Node) diverged(why error) {
	what := fmt.Sprintf("%s: %v\n", n.options.Now().UTC().Format(time.RFC3339), why)
	if err := os.WriteFile(filepath.Join(n.config.Data, rebuildFile), []byte(what), 0o600); err != nil {
		n.log.Error("this node's state differs, and it can't be marked to be rebuilt", "error", err)
		return // the leader will say so again
	}
	n.leave(fmt.Errorf("%w: %w", ErrRebuild, why))
}

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
