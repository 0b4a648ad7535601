package main

import "golang.org/x/sys/unix"

// noCoreDumps keeps the kernel from writing the process's memory, which holds keys, to a disk.
func noCoreDumps() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}
