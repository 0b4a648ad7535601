package cluster

import (
	"context"
	"net"
	"time"

	"github.com/hashicorp/raft"
)

// raftTransport is made when Raft starts: until then nobody's votes or entries are answered, so that a
// node whose data was wiped can't vote before the cluster has taken it in anew.
func (p *peerPort) raftTransport() raft.Transport {
	p.transportOnce.Do(func() {
		p.transport = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream:                  raftStream{p.raft, p},
			MaxPool:                 4,
			Timeout:                 peerTimeout,
			Logger:                  raftLogger(p.n.log),
			MsgpackUseNewTimeFormat: true,
		})
	})
	return p.transport
}

// raftStream carries Raft's connections; its addresses are node ids.
type raftStream struct {
	*connQueue
	port *peerPort
}

func (s raftStream) Dial(id raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return s.port.dial(ctx, string(id), raftProtocol)
}

type raftAddr string

func (a raftAddr) Network() string { return raftProtocol }
func (a raftAddr) String() string  { return string(a) }
