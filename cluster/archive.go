package cluster

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"

	"coffer/fsm"
)

// handleSnapshot streams the state of this node, behind a read barrier, while writes go on. Where no leader confirms it
// and the operator asks for what is here nevertheless, the archive says how old it may be.
func (n *Cluster) handleSnapshot(w http.ResponseWriter, r *http.Request) {
	age := time.Duration(0)
	if err := n.ReadBarrier(r.Context()); err != nil {
		if r.URL.Query().Get("stale") != "true" {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		age = max(n.StaleFor(), time.Millisecond)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if err := n.config.Store.SaveStale(w, age); err != nil {
		n.log.Error("a snapshot could not be streamed", "error", err)
		panic(http.ErrAbortHandler) // the client sees a broken stream, not a short one
	}
}

// handleRestore replaces the state of the whole region by an archive, which is verified first.
func (n *Cluster) handleRestore(w http.ResponseWriter, r *http.Request) {
	if !n.AtLeader(w) {
		return
	}
	if err := n.restore(r); err != nil {
		n.log.Error("an archive was not restored", "error", err)
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

func (n *Cluster) restore(r *http.Request) error {
	if !n.uploading.TryLock() { // two would write into one file
		return errors.New("another archive is being restored")
	}
	defer n.uploading.Unlock()
	path := filepath.Join(n.config.Dir, "restore.upload")
	defer os.Remove(path)
	size, err := receive(path, r.Body, n.archiveRoom())
	if err != nil {
		return err
	}
	if err := n.above.CheckRestore(path); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	sum, err := fsm.ReadSnapshot(f)
	if err != nil {
		return err
	}
	release, err := n.holdMembership(r.Context()) // or a node that does not read it could join meanwhile
	if err != nil {
		return err
	}
	defer release()
	if err := n.readsArchive(r.Context(), sum.Cluster.Format); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	meta := raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Index: sum.Index, Term: sum.Term, Size: size}
	return n.replaceState(r.Context(), &meta, f)
}

// archiveRoom is how large an archive may be, in bytes. A restore keeps three copies of it for a while: what was sent,
// what Raft sends to the others, and the new state. A disk that they fill would stop the log.
func (n *Cluster) archiveRoom() int64 {
	if n.config.DiskFree != nil {
		if free, known := n.config.DiskFree(); known {
			return int64(min(free/4, math.MaxInt64-1))
		}
	}
	return math.MaxInt64 - 1
}

// receive stores what comes at path, unless it is larger than room.
func receive(path string, body io.Reader, room int64) (int64, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	size, err := io.Copy(f, io.LimitReader(body, room+1))
	if err == nil && size > room {
		err = fmt.Errorf("the archive is larger than the %d bytes that a restore may take of this disk, a fourth of what is "+
			"free: make room, or restore at a node that has it", room)
	}
	return size, errors.Join(err, f.Sync(), f.Close())
}
