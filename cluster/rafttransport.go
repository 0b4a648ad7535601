package cluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"coffer/cluster/pki"
)

// raftTransport is made when Raft starts: until then nobody's votes or entries are answered, so that a
// node whose data was wiped can't vote before the cluster has taken it in anew.
func (p *peerPort) raftTransport() raft.Transport {
	p.transportOnce.Do(func() {
		t := &provenTransport{
			n: p.n, consumer: make(chan raft.RPC), peers: map[string]*peerTransport{}, ended: make(chan struct{}),
		}
		t.NetworkTransport = p.newTransport(raftStream{newConnQueue(raftAddr(p.n.id)), p})
		p.transport = t
		go t.accept() // ends with the port
	})
	return p.transport
}

func (p *peerPort) newTransport(stream raft.StreamLayer) *raft.NetworkTransport {
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:                  stream,
		MaxPool:                 4,
		Timeout:                 peerTimeout,
		Logger:                  raftLogger(p.n.log),
		MsgpackUseNewTimeFormat: true,
	})
}

// provenTransport is Raft's transport with proof of who sends what. Raft believes what a message's header says, and its
// transport hands messages on without the connection that they came by; so what comes from each peer has a transport of
// its own here, and what goes out has the embedded one.
type provenTransport struct {
	*raft.NetworkTransport
	n        *Cluster
	consumer chan raft.RPC
	ended    chan struct{}
	once     sync.Once

	mu        sync.Mutex // guards below
	peers     map[string]*peerTransport
	heartbeat func(raft.RPC)
}

// peerTransport is what one peer sends.
type peerTransport struct {
	*raft.NetworkTransport
	conns *connQueue
	ended chan struct{}
	once  sync.Once
}

// Close is part of raft.WithClose.
func (p *peerTransport) Close() error {
	p.once.Do(func() { close(p.ended) })
	return p.NetworkTransport.Close()
}

// Consumer is part of raft.Transport.
func (t *provenTransport) Consumer() <-chan raft.RPC { return t.consumer }

// SetHeartbeatHandler is part of raft.Transport.
func (t *provenTransport) SetHeartbeatHandler(handle func(raft.RPC)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heartbeat = handle
}

// Close is part of raft.WithClose.
func (t *provenTransport) Close() error {
	t.once.Do(func() { close(t.ended) })
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, p := range t.peers {
		_ = p.Close()
		delete(t.peers, id)
	}
	return t.NetworkTransport.Close()
}

// drop ends what a node that is no member any more sends.
func (t *provenTransport) drop(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p, ok := t.peers[id]; ok {
		_ = p.Close()
		delete(t.peers, id)
	}
}

func (t *provenTransport) accept() {
	for {
		conn, err := t.n.peers.raft.Accept()
		if err != nil {
			return
		}
		id, err := pki.IdentityOf(conn.(*tls.Conn).ConnectionState().PeerCertificates[0])
		if err != nil {
			_ = conn.Close()
			continue
		}
		go t.of(id.ID).conns.put(conn) // it gives up by itself
	}
}

// of is the transport of what comes from the node with the id.
func (t *provenTransport) of(id string) *peerTransport {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.peers[id]
	if ok {
		return p
	}
	p = &peerTransport{conns: newConnQueue(raftAddr(t.n.id)), ended: make(chan struct{})}
	p.NetworkTransport = t.n.peers.newTransport(raftStream{p.conns, t.n.peers})
	p.SetHeartbeatHandler(func(rpc raft.RPC) {
		t.mu.Lock()
		handle := t.heartbeat
		t.mu.Unlock()
		if err := t.refusal(id, rpc.Command); err != nil || handle == nil {
			t.refuse(id, rpc, err)
			return
		}
		handle(rpc)
	})
	t.peers[id] = p
	go t.forward(id, p) // ends with p
	return p
}

func (t *provenTransport) forward(id string, p *peerTransport) {
	for {
		select {
		case rpc := <-p.Consumer():
			if err := t.refusal(id, rpc.Command); err != nil {
				t.refuse(id, rpc, err)
				continue
			}
			select {
			case t.consumer <- rpc:
			case <-p.ended:
				return
			}
		case <-p.ended:
			return
		}
	}
}

func (t *provenTransport) refuse(id string, rpc raft.RPC, err error) {
	if err == nil {
		err = raft.ErrTransportShutdown
	}
	t.n.log.Warn("a Raft message was refused", "from", id, "error", err)
	rpc.Respond(nil, err)
	t.n.peers.closePeer(id) // with what else stands on the way, such as the rest of a snapshot
}

// refusal says why a message from the node with the id is not for Raft to see; nil if it is.
func (t *provenTransport) refusal(id string, command any) error {
	r := t.n.raft.Load()
	if r == nil {
		return fmt.Errorf("node %s does not take part yet", t.n.id)
	}
	with, ok := command.(raft.WithRPCHeader)
	if !ok {
		return fmt.Errorf("a message without a header: %T", command)
	}
	if h := with.GetRPCHeader(); string(h.ID) != id || string(h.Addr) != id {
		return fmt.Errorf("a message that says it is from node %q at %q", h.ID, h.Addr)
	}
	if term, latest := termOf(command), t.n.circle.latestTerm(r.CurrentTerm()); term > latest {
		return fmt.Errorf("a message in term %d: none beyond %d is believed", term, latest)
	}
	if _, ok := command.(*raft.TimeoutNowRequest); ok && id != t.n.leader() {
		return fmt.Errorf("a hand-over of leadership, which node %s does not have", id)
	}
	ctx, cancel := context.WithTimeout(context.Background(), peerTimeout)
	defer cancel()
	return t.n.circle.trusts(ctx, id)
}

// termOf is the term of a request or an answer.
func termOf(message any) uint64 {
	switch m := message.(type) {
	case *raft.AppendEntriesRequest:
		return m.Term
	case *raft.RequestVoteRequest:
		return m.Term
	case *raft.RequestPreVoteRequest:
		return m.Term
	case *raft.InstallSnapshotRequest:
		return m.Term
	case *raft.AppendEntriesResponse:
		return m.Term
	case *raft.RequestVoteResponse:
		return m.Term
	case *raft.RequestPreVoteResponse:
		return m.Term
	case *raft.InstallSnapshotResponse:
		return m.Term
	}
	return 0 // TimeoutNow has none
}

// believed fails where an answer's term is beyond what this node believes; otherwise err is what the call returned.
func (t *provenTransport) believed(id raft.ServerID, answer any, err error) error {
	if err != nil {
		return err
	}
	r := t.n.raft.Load()
	if r == nil {
		return raft.ErrTransportShutdown
	}
	if term, latest := termOf(answer), t.n.circle.latestTerm(r.CurrentTerm()); term > latest {
		return fmt.Errorf("node %s answers in term %d: none beyond %d is believed", id, term, latest)
	}
	return nil
}

// AppendEntries is part of raft.Transport.
func (t *provenTransport) AppendEntries(
	id raft.ServerID, to raft.ServerAddress, in *raft.AppendEntriesRequest, out *raft.AppendEntriesResponse,
) error {
	return t.believed(id, out, t.NetworkTransport.AppendEntries(id, to, in, out))
}

// RequestVote is part of raft.Transport.
func (t *provenTransport) RequestVote(
	id raft.ServerID, to raft.ServerAddress, in *raft.RequestVoteRequest, out *raft.RequestVoteResponse,
) error {
	return t.believed(id, out, t.NetworkTransport.RequestVote(id, to, in, out))
}

// RequestPreVote is part of raft.WithPreVote.
func (t *provenTransport) RequestPreVote(
	id raft.ServerID, to raft.ServerAddress, in *raft.RequestPreVoteRequest, out *raft.RequestPreVoteResponse,
) error {
	return t.believed(id, out, t.NetworkTransport.RequestPreVote(id, to, in, out))
}

// InstallSnapshot is part of raft.Transport.
func (t *provenTransport) InstallSnapshot(
	id raft.ServerID, to raft.ServerAddress, in *raft.InstallSnapshotRequest, out *raft.InstallSnapshotResponse,
	data io.Reader,
) error {
	return t.believed(id, out, t.NetworkTransport.InstallSnapshot(id, to, in, out, data))
}

// AppendEntriesPipeline is part of raft.Transport.
func (t *provenTransport) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	inner, err := t.NetworkTransport.AppendEntriesPipeline(id, to)
	if err != nil {
		return nil, err
	}
	p := &provenPipeline{AppendPipeline: inner, out: make(chan raft.AppendFuture), ended: make(chan struct{})}
	go p.check(t, id) // ends with the pipeline
	return p, nil
}

// provenPipeline is a pipeline whose answers are looked at before Raft sees them.
type provenPipeline struct {
	raft.AppendPipeline
	out   chan raft.AppendFuture
	ended chan struct{}
	once  sync.Once
}

func (p *provenPipeline) check(t *provenTransport, id raft.ServerID) {
	for {
		select {
		case f := <-p.AppendPipeline.Consumer():
			if f.Error() == nil {
				if err := t.believed(id, f.Response(), nil); err != nil {
					t.n.log.Warn("a Raft message was refused", "from", id, "error", err)
					*f.Response() = raft.AppendEntriesResponse{} // no success, which ends the pipeline
				}
			}
			select {
			case p.out <- f:
			case <-p.ended:
				return
			}
		case <-p.ended:
			return
		}
	}
}

// Consumer is part of raft.AppendPipeline.
func (p *provenPipeline) Consumer() <-chan raft.AppendFuture { return p.out }

// Close is part of raft.AppendPipeline.
func (p *provenPipeline) Close() error {
	p.once.Do(func() { close(p.ended) })
	return p.AppendPipeline.Close()
}

// raftStream carries Raft's connections; its addresses are node ids.
type raftStream struct {
	*connQueue
	port *peerPort
}

// Dial is part of raft.StreamLayer.
func (s raftStream) Dial(id raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return s.port.dial(ctx, string(id), raftProtocol)
}

type raftAddr string

func (a raftAddr) Network() string { return raftProtocol }
func (a raftAddr) String() string  { return string(a) }
