package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// What can be done to a node of a running `coffer dev`.
const (
	verbKill   = "kill"
	verbStop   = "stop"
	verbStart  = "start"
	verbPause  = "pause"
	verbResume = "resume"
)

// maxSocketPath is how long the path of a unix socket may be on every system (sockaddr_un, with its final zero).
const maxSocketPath = 103

// A running `coffer dev` listens on a socket in its directory and carries out what other processes of the same
// user ask for. Requests and answers are HTTP, the answers are text for a person. Nobody but `coffer dev` signals a
// node: it is the parent of all of them, so a process id never means another process.

func (d *dev) control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) { _ = d.showStatus(r.Context(), w) })
	mux.HandleFunc("POST /{verb}", func(w http.ResponseWriter, r *http.Request) {
		answer, err := d.act(r.Context(), r.PathValue("verb"), r.URL.Query().Get("node"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		_, _ = io.WriteString(w, answer)
	})
	return mux
}

// listenControl replaces the socket of an earlier run, which nobody listens on: the directory's lock is held.
func (c *devConfig) listenControl() (net.Listener, error) {
	path := c.path(controlSocket)
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("--data %s: its path is too long for a socket in it: wanted at most %d bytes",
			c.dir, maxSocketPath-len(controlSocket)-1)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen for commands: %w", err)
	}
	return l, os.Chmod(path, 0o600)
}

// lockDirectory makes this process the only `coffer dev` of its directory. The nodes inherit the lock and hold it
// for as long as they run, so it is free only when all that an earlier run started has ended.
func (c *devConfig) lockDirectory(ctx context.Context) (*os.File, error) {
	lock, err := os.OpenFile(c.path(lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(leftoverTimeout)
	for {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return lock, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", lock.Name(), err), lock.Close())
		}
		if conn, err := c.dial(ctx); err == nil {
			_ = conn.Close()
			return nil, errors.Join(fmt.Errorf("another coffer dev runs with its data in %s: "+
				"`%s status` shows it; end it, or give another --data", c.dir, c.self), lock.Close())
		}
		// That run was killed. Its nodes see that within moments and end, unless they are stopped (SIGSTOP).
		if time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("a coffer dev with its data in %s was killed, and nodes of it still "+
				"run: end them (`pgrep -af 'coffer server'` lists them; paused ones need SIGCONT)", c.dir), lock.Close())
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), lock.Close())
		}
	}
}

// leftoverTimeout bounds the wait for nodes of a run that was killed; they finish requests before they end.
const leftoverTimeout = 45 * time.Second

// errNoDev says that nobody listens on the socket.
var errNoDev = errors.New("no coffer dev runs")

func (c *devConfig) dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", c.path(controlSocket))
}

// call asks the running `coffer dev` and returns its answer.
func (c *devConfig) call(ctx context.Context, method, path string) (string, error) {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://dev"+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return "", fmt.Errorf("%w with its data in %s: `%s` starts one", errNoDev, c.dir, c.self)
	case err != nil:
		return "", fmt.Errorf("ask the coffer dev of %s: %w", c.dir, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(strings.TrimSpace(string(answer)))
	}
	return string(answer), err
}

func devStatusCommand(c *devConfig) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show which nodes run, who leads, and what works",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return c.print(cmd, http.MethodGet, "/status") },
	}
}

func devActCommand(c *devConfig, verb, short string) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " [REGION/]NODE",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.print(cmd, http.MethodPost, "/"+verb+"?"+url.Values{"node": args}.Encode())
		},
	}
}

func (c *devConfig) print(cmd *cobra.Command, method, path string) error {
	if err := c.complete(); err != nil {
		return err
	}
	answer, err := c.call(cmd.Context(), method, path)
	if err != nil {
		return err
	}
	_, err = io.WriteString(cmd.OutOrStdout(), answer)
	return err
}
