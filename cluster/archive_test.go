package cluster_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"coffer/cluster"
)

// TestAnArchiveLeavesRoomOnTheDisk sends an archive that would fill the disk: it is refused, and nothing of it stays.
func TestAnArchiveLeavesRoomOnTheDisk(t *testing.T) {
	g := newGroup(t)
	var free atomic.Uint64
	free.Store(1 << 30)
	g.with = func(c *cluster.Config) { c.DiskFree = func() (uint64, bool) { return free.Load(), true } }
	m := g.add("n1", 1)
	m.awaitReady()
	archive := m.archived()
	free.Store(uint64(4*len(archive) - 4))
	before := m.checkpoints()
	if err := m.restore(archive); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("an archive for which there is no room: %v", err)
	}
	m.want(before)
	if _, err := os.Stat(filepath.Join(m.dir, "restore.upload")); err == nil {
		t.Error("what was sent stays on the disk")
	}
	free.Store(uint64(4 * len(archive)))
	noError(t, m.restore(archive))
}
