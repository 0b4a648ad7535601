package main

import (
	"os"
	"runtime/debug"
)

// The heap is small, since the state is in mapped files: collecting less often costs little memory and
// saves a tenth of the CPU.
const (
	gcPercent   = 400
	memoryLimit = 256 << 20
)

// tuneMemory sets the garbage collector, unless GOGC or GOMEMLIMIT do.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}
