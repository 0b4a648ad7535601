package cluster_test

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"coffer/cluster"
	"coffer/cluster/pki"
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

// TestTwoRestoresAtOnce sends an archive while another one is on its way: it is refused, and the first one is restored.
func TestTwoRestoresAtOnce(t *testing.T) {
	m := newGroup(t).add("n1", 1)
	m.awaitReady()
	archive := m.archived()
	body, send := io.Pipe()
	first := make(chan error, 1)
	operator := m.g.credentials(pki.Operator, "op")
	go func() {
		code, text, err := m.stream(operator, http.MethodPost, "/restore", body)
		if err == nil && code != http.StatusOK {
			err = errors.New(text)
		}
		first <- err
	}()
	_, err := send.Write(archive[:len(archive)/2])
	noError(t, err)
	m.await("the first archive to arrive", func() error {
		_, err := os.Stat(filepath.Join(m.dir, "restore.upload"))
		return err
	})
	before := m.checkpoints()
	if err := m.restore(archive); err == nil || !strings.Contains(err.Error(), "another archive is being restored") {
		t.Errorf("the second archive: %v", err)
	}
	m.want(before)
	_, err = send.Write(archive[len(archive)/2:])
	noError(t, errors.Join(err, send.Close()))
	noError(t, <-first)
	m.want(0)
}
