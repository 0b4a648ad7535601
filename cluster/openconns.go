package cluster

import (
	"net"
	"net/netip"
	"sync"
)

// openConns are the open connections of one kind, by whom they are of: an address before the handshake, an identity
// after it. Each holder may have perKey of them and all together total.
type openConns struct {
	perKey, total int

	mu    sync.Mutex              // guards below
	byKey map[string][]*watchConn // oldest first; no list is empty
	count int
}

func newOpenConns(perKey, total int) *openConns {
	return &openConns{perKey: perKey, total: total, byKey: map[string][]*watchConn{}}
}

// add takes conn in. Where there is no room it closes another: the oldest of the same key if that has its share, and
// otherwise the oldest of the key that has most. So a newcomer always gets in, and who floods displaces itself.
func (o *openConns) add(key string, conn *watchConn) {
	o.mu.Lock()
	var displaced *watchConn
	switch {
	case len(o.byKey[key]) >= o.perKey:
		displaced = o.byKey[key][0]
	case o.count >= o.total:
		displaced = o.oldestOfFullest()
	}
	if displaced != nil {
		o.drop(displaced)
	}
	o.byKey[key] = append(o.byKey[key], conn)
	conn.key = key
	o.count++
	o.mu.Unlock()
	if displaced != nil {
		_ = displaced.Close()
	}
}

func (o *openConns) oldestOfFullest() (oldest *watchConn) {
	most := 0
	for _, conns := range o.byKey {
		if len(conns) > most || len(conns) == most && conns[0].number < oldest.number {
			most, oldest = len(conns), conns[0]
		}
	}
	return oldest
}

// remove forgets conn, if it is there.
func (o *openConns) remove(conn *watchConn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.drop(conn)
}

func (o *openConns) drop(conn *watchConn) {
	conns := o.byKey[conn.key]
	for i, c := range conns {
		if c != conn {
			continue
		}
		o.count--
		if len(conns) == 1 {
			delete(o.byKey, conn.key)
			return
		}
		o.byKey[conn.key] = append(conns[:i:i], conns[i+1:]...)
		return
	}
}

// closeWhere closes the connections that unwanted says.
func (o *openConns) closeWhere(unwanted func(*watchConn) bool) (closed int) {
	o.mu.Lock()
	var found []*watchConn
	for _, conns := range o.byKey {
		for _, c := range conns {
			if unwanted(c) {
				found = append(found, c)
			}
		}
	}
	o.mu.Unlock()
	for _, c := range found {
		_ = c.Close() // forgets it, too
	}
	return len(found)
}

// addressKey is what connections are counted by before it is known whose they are: the host, or for IPv6 the /64 that
// one host can draw addresses from.
func addressKey(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return addr.String()
	}
	ip := tcp.AddrPort().Addr().Unmap()
	if ip.Is4() {
		return ip.String()
	}
	return netip.PrefixFrom(ip, 64).Masked().String()
}
