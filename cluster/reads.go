package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"coffer/cluster/pki"
	"coffer/cluster/quorum"
	"coffer/cluster/readindex"
	"coffer/mistake"
)

// member is this node as its read index sees it (readindex.Node).
type member struct{ n *Cluster }

func (m member) Term() uint64 {
	if r := m.n.raft.Load(); r != nil {
		return r.CurrentTerm()
	}
	return 0
}

func (m member) Leads() uint64                 { return m.n.LeaderTerm() }
func (m member) Leader() string                { return m.n.leader() }
func (m member) Members() quorum.Configuration { return m.n.members() }
func (m member) Applied() uint64               { return m.n.config.Store.Applied() }

func (m member) WaitApplied(ctx context.Context, index uint64) error {
	return m.n.config.Store.WaitApplied(ctx, index)
}

// members are those of Raft's latest configuration, uncommitted included.
func (n *Cluster) members() quorum.Configuration {
	servers := n.servers()
	c := make(quorum.Configuration, len(servers))
	for i, s := range servers {
		c[i] = quorum.Server{ID: string(s.ID), Voter: s.Suffrage == raft.Voter}
	}
	return c
}

func newBarrier(n *Cluster) *readindex.Barrier {
	return readindex.New(readindex.Config{
		Self:    n.id,
		Node:    member{n},
		Timeout: n.timing.read,
		Cluster: func() readindex.ClusterID { return readindex.IDOf(n.ID()) },
		Dial: func(ctx context.Context, id string) (net.Conn, error) {
			return n.peers.dial(ctx, id, readindex.Protocol)
		},
	})
}

// ReadBarrier returns when a read of this node's state sees every write that was acknowledged before the call. It
// fails as [readindex.Barrier.Wait] does, and with [quorum.ErrBehind] while the state here may never be committed: it
// is not to be read as old state either.
func (n *Cluster) ReadBarrier(ctx context.Context) error {
	if n.restoring.doubt.Load() {
		return errRestoring
	}
	began := time.Now()
	err := n.barrier.Wait(ctx)
	if n.restoring.doubt.Load() { // it came meanwhile
		return errRestoring
	}
	if err == nil {
		observe(n.config.Observe.ReadBarrier, began)
	}
	return err
}

// StaleFor is how old this node's state may be: the time since the newest round began that confirmed it, in this life
// or before the last start.
func (n *Cluster) StaleFor() time.Duration { return n.kept.Age(n.barrier.Confirmed()) }

// closeKept keeps the newest confirmation of all.
func (n *Cluster) closeKept() error {
	err := n.config.Store.Flush()
	if err == nil && n.barrier != nil {
		durable := n.config.Store.Durable().Through
		err = n.kept.Note(n.barrier.Confirmed(), durable)
	}
	return errors.Join(err, n.kept.Close())
}

// confirmInterval is how often this node has its state confirmed also without readers, so that it knows how old it is
// when the leader is lost.
const confirmInterval = time.Second

// keepConfirmed has this node's state confirmed now and then, and notes when it was for the first time: when the node
// has applied what the leader had. Raft can let a node that was away wait for seconds before it sends it anything.
func (n *Cluster) keepConfirmed(ctx context.Context) {
	failed := false
	for {
		pause := confirmInterval
		if n.ReadBarrier(ctx) == nil {
			n.caughtUp.Store(true)
			durable := n.config.Store.Durable().Through
			err := n.kept.Note(n.barrier.Confirmed(), durable)
			if err != nil && !failed {
				n.log.Warn("when this node's state was confirmed can't be kept; after a restart it will seem older", "error", err)
			}
			failed = err != nil
		} else if !n.caughtUp.Load() {
			pause = retryAfter
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// answerReadIndexes serves other nodes' read-index connections until ctx ends.
func (n *Cluster) answerReadIndexes(ctx context.Context) {
	var open sync.WaitGroup
	defer open.Wait()
	for {
		conn, err := n.peers.index.Accept()
		if err != nil {
			return // the port was closed
		}
		asker, err := pki.IdentityOf(conn.(*tls.Conn).ConnectionState().PeerCertificates[0])
		if err != nil {
			_ = conn.Close()
			continue
		}
		open.Go(func() {
			_ = mistake.Catch(n.log, "a question of another node failed by a mistake in the code", func() error {
				n.barrier.Serve(ctx, conn, asker.ID) // which closes the connection, however it ends
				return nil
			})
		})
	}
}
