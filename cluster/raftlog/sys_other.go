//go:build !linux

package raftlog

import "os"

func syncData(f *os.File) error { return f.Sync() }

// lock does nothing here: bbolt locks the log's file.
func lock(*os.File) error { return nil }
