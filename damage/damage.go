// Package damage says what counts as damage of stored data, and tells it from mistakes in the code.
//
// Damage is what checksums find, a panic inside a call into bbolt or raft-boltdb, and a memory fault whose address lies
// in a file that is mapped: nothing else. A node that finds damage never serves from that data again, so a mistake in a
// closure or in the applying of one command must not count as such: all nodes of a region make the same mistake at the
// same entry.
package damage

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// Err says that something stored is not what was written. The node must not serve it any more.
var Err = errors.New("stored data is damaged")

// Found is panicked with where a checksum or another check of stored data fails, and becomes an error that wraps [Err]
// at the edge of the transaction ([Recover]).
type Found string

// Faults makes faults in mapped files panic in this goroutine, so that [Recover] sees them, until the returned function
// is called.
func Faults() (restore func()) {
	before := debug.SetPanicOnFault(true)
	return func() { debug.SetPanicOnFault(before) }
}

// Recover is deferred around code that reads files through bbolt. It turns a panic that means damage into an error that
// wraps [Err]; any other panic goes on. mapped reports whether an address lies in a mapped file; it may be nil.
func Recover(err *error, mapped func(address uintptr) bool) {
	p := recover()
	switch f := p.(type) {
	case nil:
		return
	case Found:
		*err = fmt.Errorf("%w: %s", Err, string(f))
		return
	case interface{ Addr() uintptr }: // a fault: runtime.Error has the address where [Faults] is in force
		if mapped != nil && mapped(f.Addr()) {
			*err = fmt.Errorf("%w: a page can't be read", Err)
			return
		}
	}
	if insideBolt() {
		*err = fmt.Errorf("%w: bbolt: %v", Err, p)
		return
	}
	panic(p)
}

// insideBolt reports whether the panic that is being recovered began in a call into bbolt, or into raft-boltdb, which
// decodes what bbolt reads: from where it was raised outwards, they come before this project's code. A closure that
// bbolt calls is this project's code.
func insideBolt() bool {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	raised := false // the deferred calls on the way to the panic are not where it was raised
	for {
		f, more := frames.Next()
		switch {
		case f.Function == "runtime.gopanic" || f.Function == "runtime.sigpanic":
			raised = true
		case raised && strings.HasPrefix(f.Function, "go.etcd.io/bbolt"),
			raised && strings.HasPrefix(f.Function, "github.com/hashicorp/raft-boltdb"):
			return true
		case raised && strings.HasPrefix(f.Function, "coffer/"):
			return false
		}
		if !more {
			return false
		}
	}
}
