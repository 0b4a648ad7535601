package httpapi

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// Limits bound what clients can take of a node, whether they can sign or not. What is above them is refused in a way
// that AWS SDKs try again: a connection is closed as it comes, a request is answered with a ThrottlingException and
// status 503.
//
// An address is an IPv4 address or an IPv6 network of 64 bits, which one host may have for itself. Clients behind a
// load balancer, or behind address translation, share one.
type Limits struct {
	Connections           int   // open at a time
	ConnectionsPerAddress int   // open at a time, of one address
	Bytes                 int64 // of bodies and answers in memory
	BytesPerAddress       int64 // of bodies and answers in memory, of one address

	// Requests that are carried out at a time. Reads and writes have their own, since writes wait for other nodes, and
	// reads go on where there is no majority to write.
	Reads, Writes int
	// Wait is how long a signed request waits to be carried out, before it is refused.
	Wait time.Duration
	// Work is how long it may take to be carried out then. Body (15 s), Wait and Work together are less than any SDK
	// waits.
	Work time.Duration
}

// DefaultLimits are for a node with 1 GiB of memory.
var DefaultLimits = Limits{
	Connections: 4096, ConnectionsPerAddress: 1024,
	Bytes: 64 << 20, BytesPerAddress: 32 << 20,
	Reads: 256, Writes: 512, Wait: 2 * time.Second, Work: 12 * time.Second,
}

// Check says which limit can't be.
func (l Limits) Check() error {
	switch {
	case l.Connections < 1, l.ConnectionsPerAddress < 1:
		return errors.New("the client port must allow at least one connection, in all and of an address")
	case l.Bytes < maxBody, l.BytesPerAddress < maxBody:
		return fmt.Errorf("the client port must allow at least %d bytes in memory, in all and of an address:"+
			" the largest request", maxBody)
	case l.Reads < 1, l.Writes < 1, l.Wait <= 0, l.Work <= 0:
		return errors.New("the client port must allow at least one read and one write at a time, and time for them")
	}
	return nil
}

// addressOf is what one client is known by.
func addressOf(hostPort string) netip.Prefix {
	addr, err := netip.ParseAddrPort(hostPort)
	if err != nil {
		return netip.Prefix{} // all that can't be told apart count as one
	}
	ip := addr.Addr().Unmap().WithZone("")
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	network, _ := ip.Prefix(bits) // fails only for bits that an address does not have
	return network
}

// quota counts something that all clients together and each address can have so much of.
type quota struct {
	total, perAddress int64

	mu   sync.Mutex // guards below
	used int64
	by   map[netip.Prefix]int64
}

func newQuota(total, perAddress int64) *quota {
	return &quota{total: total, perAddress: perAddress, by: map[netip.Prefix]int64{}}
}

// take takes n for an address, unless there would be too much.
func (q *quota) take(of netip.Prefix, n int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.used+n > q.total || q.by[of]+n > q.perAddress {
		return false
	}
	q.add(of, n)
	return true
}

// force takes n for an address, even if that is too much: others are refused then.
func (q *quota) force(of netip.Prefix, n int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.add(of, n)
}

func (q *quota) give(of netip.Prefix, n int64) { q.force(of, -n) }

func (q *quota) add(of netip.Prefix, n int64) {
	q.used += n
	if q.by[of] += n; q.by[of] == 0 {
		delete(q.by, of)
	}
}

func (q *quota) inUse() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.used
}
