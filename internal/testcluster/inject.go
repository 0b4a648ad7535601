package testcluster

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// InjectSync makes the syncs of a file of the node's data directory fail or wait from now on, until its process ends or
// stop is called. How is strace's: "error=EIO", "delay_enter=600s". A process that waits can't be ended, as with a real
// disk.
func (n *Node) InjectSync(file, how string) (stop func(), err error) {
	path := filepath.Join(n.Data, file)
	cmd := exec.Command("strace", "-f", "-p", strconv.Itoa(n.PID()), "-P", path, "-o", os.DevNull,
		"-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:"+how)
	said, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(said)
	var last string
	for lines.Scan() {
		last = lines.Text()
		if strings.Contains(last, "attached") {
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for lines.Scan() { // it tells of each new thread
				}
				_ = cmd.Wait() // it ends with the node
			}()
			return func() {
				_ = cmd.Process.Kill() // one that has ended needs none
				<-ended
			}, nil
		}
	}
	return nil, fmt.Errorf("strace did not attach to %s: %s (%w)", n.ID, last, cmd.Wait())
}
