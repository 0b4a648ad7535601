//go:build !linux

package main

import "syscall"

// noCoreDumps keeps the kernel from writing the process's memory, which holds keys, to a disk.
func noCoreDumps() error {
	return syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
}
