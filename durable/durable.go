// Package durable puts files in place so that a power failure leaves either the old one or the whole new one.
package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// Install renames a complete and synced file into place and syncs the directory.
func Install(temp, path string) error {
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return SyncDir(path)
}

// SyncDir syncs the directory that path is in, so that a file renamed to path stays there after a power failure.
func SyncDir(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
