// Package mistake keeps a mistake in the code from ending a process, or from leaving somebody without an answer: a
// panic in a request is that request's failure, and a panic in a background job is that run's. What is logged of it
// says where it happened and never what the code held at that moment, which may be a secret.
package mistake

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
)

// Err says that the code panicked. The log has the rest.
var Err = errors.New("a mistake in the code ended this; the log says where")

// Catch calls do and returns what it returns. A panic is logged as what at level Error, with args as
// [slog.Logger.Error] has them, and returned as an error that wraps [Err]. [http.ErrAbortHandler] goes on, since it
// is meant.
func Catch(log *slog.Logger, what string, do func() error, args ...any) (err error) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
			panic(p)
		}
		log.Error(what, append(args, "panic", describe(p), "stack", stack())...)
		err = Err
	}()
	return do()
}

// Handler answers with 500, by answer, where h panics, or breaks the connection off if an answer has begun: half an
// answer must not pass for a whole one.
func Handler(log *slog.Logger, h http.Handler, answer http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t := &tracked{ResponseWriter: w}
		err := Catch(log, "a request failed by a mistake in the code", func() error {
			h.ServeHTTP(t, r)
			return nil
		})
		switch {
		case err == nil:
		case t.began:
			panic(http.ErrAbortHandler)
		default:
			answer(w, r)
		}
	})
}

// tracked notes whether an answer has begun.
type tracked struct {
	http.ResponseWriter
	began bool
}

func (t *tracked) WriteHeader(status int) {
	t.began = true
	t.ResponseWriter.WriteHeader(status)
}

func (t *tracked) Write(b []byte) (int, error) {
	t.began = true
	return t.ResponseWriter.Write(b)
}

// Unwrap is for [http.ResponseController].
func (t *tracked) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// describe says what was panicked with: its type, since its text may hold anything. The runtime's own errors have fixed
// texts, but for numbers, which can be bytes of a secret.
func describe(p any) string {
	runtimeErr, ok := p.(runtime.Error)
	if !ok {
		return fmt.Sprintf("%T", p)
	}
	return strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return '#'
		}
		return r
	}, runtimeErr.Error())
}

// maxFrames bounds what is logged of a stack.
const maxFrames = 64

// stack is where the panic happened, outwards: functions, files and lines. A traceback of the runtime would also
// show the words that functions were called with.
func stack() string {
	var pcs [maxFrames]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	var b strings.Builder
	raised := false // the deferred calls on the way to the panic are not where it happened
	for {
		f, more := frames.Next()
		if raised {
			fmt.Fprintf(&b, "%s\n\t%s:%d\n", f.Function, f.File, f.Line)
		}
		raised = raised || f.Function == "runtime.gopanic"
		if !more {
			return b.String()
		}
	}
}
