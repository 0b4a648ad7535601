// Package durable puts files in place so that a power failure leaves either the old one or the whole new one.
package durable

import (
	"os"
	"path/filepath"
)

// Install renames a complete and synced file into place and syncs the directory.
func Install(temp, path string) error {
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
