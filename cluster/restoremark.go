package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"coffer/durable"
	"coffer/fsm"
)

// A node that takes a state which may not be committed, and may never be, says so in a file before: the leader of a
// restore, and whoever is sent a snapshot (docs/decisions/017-restores.md). The file goes when what came after the
// state is committed.
const (
	restoreMarkFile = "restoring"
	// abandonedDir takes the data of a restore that was abandoned.
	abandonedDir = "abandoned-restore"
)

// restoreMark is what stands in the file. Compared with how far the state has come (through), it tells what the end of
// the process left undone.
type restoreMark struct {
	// Voters is how many voters there were when this node, as the leader, began the restore; 0 if it was sent the state,
	// or when a majority has it.
	Voters int `json:"voters,omitempty"`
	// Index is that of the state that is about to take the place of the leader's own; 0 before it is known.
	Index uint64 `json:"index,omitempty"`
	// Discard says that what is in the data directory is to be discarded: the leader's log has other entries in place of
	// the state, or the discarding has begun.
	Discard bool `json:"discard,omitempty"`
}

// abandons reports whether a node that starts with the mark discards its data. One that led a restore does, if its
// state was replaced: another leader may have filled the index of the restored state with something else. Where no
// majority was there without it, nobody can have, and its copy may be the only one: it carries the restore through.
func (m restoreMark) abandons(through uint64) bool {
	return m.Discard || m.Voters > 2 && m.replaced(through)
}

// untouched reports whether a restore that this node led ended before its state was replaced: the others have not heard
// of it either.
func (m restoreMark) untouched(through uint64) bool {
	return !m.Discard && m.Voters > 0 && !m.replaced(through)
}

func (m restoreMark) replaced(through uint64) bool { return m.Index > 0 && through >= m.Index }

func writeRestoreMark(dir string, m restoreMark) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, restoreMarkFile)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return durable.Install(path+".new", path)
}

func readRestoreMark(dir string) (m restoreMark, there bool, err error) {
	b, err := os.ReadFile(filepath.Join(dir, restoreMarkFile))
	if errors.Is(err, fs.ErrNotExist) {
		return m, false, nil
	} else if err != nil {
		return m, false, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, false, fmt.Errorf("the file %s can't be read: %w", restoreMarkFile, err)
	}
	return m, true, nil
}

func removeRestoreMark(dir string) error {
	if err := os.Remove(filepath.Join(dir, restoreMarkFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Abandoned reports whether what is in a data directory, with its state, is of a restore that was abandoned: the node
// has to start as one without data then ([DiscardAbandoned]).
func Abandoned(dir string, state *fsm.Store) (bool, error) {
	m, there, err := readRestoreMark(dir)
	return there && m.abandons(state.Durable().Through), err
}

// hasDiscarded reports whether a node has no data because it discarded them. It must not take part in forming a
// cluster: where all nodes of a region did, an empty one would take the region's place.
func hasDiscarded(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, abandonedDir))
	return err == nil
}

// DiscardAbandoned moves everything in a data directory aside, and returns where to. Nothing in it may be open, here
// or in another process. Interrupted, it goes on when it is called again: the mark goes last.
func DiscardAbandoned(dir string) (to string, err error) {
	to = filepath.Join(dir, abandonedDir)
	if err := writeRestoreMark(dir, restoreMark{Discard: true}); err != nil { // the state goes, and tells nothing then
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return "", err
	}
	for _, e := range entries {
		if e.Name() == restoreMarkFile || e.Name() == abandonedDir {
			continue
		}
		aside := filepath.Join(to, e.Name())
		if err := os.RemoveAll(aside); err != nil { // of an earlier one
			return "", err
		}
		if err := os.Rename(filepath.Join(dir, e.Name()), aside); err != nil {
			return "", err
		}
	}
	if err := errors.Join(syncDir(to), syncDir(dir)); err != nil {
		return "", err
	}
	return to, removeRestoreMark(dir)
}
