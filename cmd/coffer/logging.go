package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"
)

// logFlushInterval is how long a line may wait; one that warns does not wait.
const logFlushInterval = 100 * time.Millisecond

// newLogger logs to standard error. Lines are gathered, so that not every request costs a system call.
func newLogger(level, format string) (log *slog.Logger, flush func(), err error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, nil, fmt.Errorf("log level %q: wanted debug, info, warn or error", level)
	}
	w := &logWriter{buf: bufio.NewWriterSize(os.Stderr, 64<<10)}
	options := &slog.HandlerOptions{Level: l}
	switch format {
	case "json":
		return slog.New(flushingHandler{slog.NewJSONHandler(w, options), w}), w.flush, nil
	case "text":
		return slog.New(flushingHandler{slog.NewTextHandler(w, options), w}), w.flush, nil
	}
	return nil, nil, fmt.Errorf("log format %q: wanted json or text", format)
}

type logWriter struct {
	mu      sync.Mutex // guards below
	buf     *bufio.Writer
	waiting bool // a flush is on its way
}

var _ io.Writer = (*logWriter)(nil)

func (w *logWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.waiting {
		w.waiting = true
		time.AfterFunc(logFlushInterval, w.flush)
	}
	return w.buf.Write(b)
}

func (w *logWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = false
	_ = w.buf.Flush() // nobody is left to tell
}

// flushingHandler flushes after lines that warn.
type flushingHandler struct {
	slog.Handler
	w *logWriter
}

func (h flushingHandler) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if r.Level >= slog.LevelWarn {
		h.w.flush()
	}
	return err
}

func (h flushingHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return flushingHandler{h.Handler.WithAttrs(attrs), h.w}
}

func (h flushingHandler) WithGroup(name string) slog.Handler {
	return flushingHandler{h.Handler.WithGroup(name), h.w}
}
