package pki

import (
	"log/slog"
	"sync"
	"time"
)

// file is what a file holds, read again when it changes. What can't be read leaves the old in use.
type file[T any] struct {
	path string
	read func(path string) (T, error)
	log  func(level slog.Level, message string, args ...any)

	mu      sync.Mutex // guards below
	value   T
	changed time.Time // the latest change that was looked at
	checked time.Time
	reads   uint64
}

// openFile reads a file for the first time.
func openFile[T any](
	path string, read func(string) (T, error), log func(slog.Level, string, ...any),
) (*file[T], error) {
	changed := latest(path)
	value, err := read(path)
	if err != nil {
		return nil, err
	}
	return &file[T]{path: path, read: read, log: log, value: value, changed: changed, checked: time.Now()}, nil
}

func (f *file[T]) get() T {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.checked) < certCheckInterval {
		return f.value
	}
	f.checked = time.Now()
	changed := latest(f.path)
	if changed.Equal(f.changed) {
		return f.value
	}
	f.changed = changed
	value, err := f.read(f.path)
	if err != nil {
		f.log(slog.LevelError, "a file that was changed can't be used; what it held before stays", "file", f.path, "error",
			err)
		return f.value
	}
	f.log(slog.LevelInfo, "a file was read again", "file", f.path)
	f.value = value
	f.reads++
	return f.value
}

// count says how often what the file holds was replaced.
func (f *file[T]) count() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reads
}
