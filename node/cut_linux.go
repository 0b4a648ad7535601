package node

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// cutOff ends every connection of this process and lets no new one in. A process that waits for a hung disk can't be
// ended before that answers, and until then it would keep its sockets: others and clients would go on waiting for it.
func cutOff() {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return // they end with the process, if it ends
	}
	for _, entry := range fds {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		address, err := unix.Getsockname(fd)
		if err != nil {
			continue // no socket
		}
		switch address.(type) {
		case *unix.SockaddrInet4, *unix.SockaddrInet6: // not the socket that the log may go to
			_ = unix.Shutdown(fd, unix.SHUT_RDWR)
		}
	}
}
