package main

import (
	"fmt"
	"os"
	"sync"
	"text/tabwriter"
	"time"
)

// screen tells what happens, with the time since the start, and keeps a line with the state of the load below it where
// it is a terminal.
type screen struct {
	start    time.Time
	terminal bool

	mu   sync.Mutex // guards below
	line func() string
	done chan struct{}
}

func newScreen() *screen {
	info, err := os.Stdout.Stat()
	return &screen{
		start: time.Now(), terminal: err == nil && info.Mode()&os.ModeCharDevice != 0, done: make(chan struct{}),
	}
}

const clearLine = "\r\x1b[K"

func (s *screen) print(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.terminal {
		fmt.Print(clearLine)
	}
	fmt.Printf(format+"\n", args...)
	if s.terminal && s.line != nil {
		fmt.Print(s.line())
	}
}

func (s *screen) title(format string, args ...any) { s.print("\n== "+format, args...) }

func (s *screen) say(format string, args ...any) {
	s.print("%6.1f s  %s", time.Since(s.start).Seconds(), fmt.Sprintf(format, args...))
}

// watch shows a line that changes, until end.
func (s *screen) watch(line func() string) {
	s.mu.Lock()
	s.line = line
	s.mu.Unlock()
	if !s.terminal {
		return
	}
	go func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s.mu.Lock()
				fmt.Print(clearLine + s.line())
				s.mu.Unlock()
			case <-s.done:
				return
			}
		}
	}()
}

func (s *screen) end() {
	close(s.done)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line = nil
	if s.terminal {
		fmt.Print(clearLine)
	}
}

func (s *screen) table(head []string, rows [][]string) {
	fmt.Println()
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	for _, row := range append([][]string{head}, rows...) {
		for _, cell := range row {
			fmt.Fprint(w, cell, "\t")
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // to the terminal
}
