//go:build linux || darwin || freebsd

package node

import "golang.org/x/sys/unix"

// space is how much of a disk is left for this process, and how much it has, in bytes.
func space(path string) (free, size float64) {
	var s unix.Statfs_t
	if unix.Statfs(path, &s) != nil {
		return 0, 0
	}
	return float64(s.Bavail) * float64(s.Bsize), float64(s.Blocks) * float64(s.Bsize)
}
