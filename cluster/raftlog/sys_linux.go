package raftlog

import (
	"os"
	"syscall"
)

// syncData syncs a file's content. Its size and blocks never change, so there is nothing else to sync.
func syncData(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }

// lock takes the file for this process, until it is closed.
func lock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }
