package cluster

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"coffer/cluster/pki"
)

// A read-index connection carries questions, "how far must I have applied? I follow you in this term", and
// answers: one byte whether this node leads, and the index. Numbers have 8 bytes, big-endian. Followers under
// load ask hundreds of times a second, and an HTTP call cost as much as several reads.
const (
	indexProtocol    = "coffer-read-index"
	indexQuestionLen = 8
	indexAnswerLen   = 1 + 8
)

// indexClient asks the leader, over a connection that it keeps. It is used by one goroutine at a time.
type indexClient struct {
	peers  *peerPort
	leader string
	conn   net.Conn
}

// ask answers the index that leader has applied and that is confirmed to be the region's latest. term is this
// node's.
func (c *indexClient) ask(leader string, term uint64) (uint64, error) {
	deadline := time.Now().Add(barrierTimeout)
	if c.leader != leader {
		c.close()
	}
	if c.conn == nil {
		ctx, cancel := context.WithDeadline(context.Background(), deadline)
		defer cancel()
		conn, err := c.peers.dial(ctx, leader, indexProtocol)
		if err != nil {
			return 0, err
		}
		c.leader, c.conn = leader, conn
	}
	var answer [indexAnswerLen]byte
	_ = c.conn.SetDeadline(deadline)
	_, err := c.conn.Write(binary.BigEndian.AppendUint64(nil, term))
	if err == nil {
		_, err = io.ReadFull(c.conn, answer[:])
	}
	if err != nil {
		c.close()
		return 0, err
	}
	if answer[0] == 0 {
		return 0, errNotLeader
	}
	return binary.BigEndian.Uint64(answer[1:]), nil
}

func (c *indexClient) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
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
		open.Add(1)
		go func() {
			defer open.Done()
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			n.answerReadIndex(ctx, conn.(*tls.Conn))
		}()
	}
}

func (n *Cluster) answerReadIndex(ctx context.Context, conn *tls.Conn) {
	asker, err := pki.IdentityOf(conn.ConnectionState().PeerCertificates[0])
	if err != nil {
		return
	}
	var question [indexQuestionLen]byte
	for {
		if _, err := io.ReadFull(conn, question[:]); err != nil {
			return // the asker has gone, or asks another leader
		}
		var answer [indexAnswerLen]byte
		if index, err := n.readIndexFor(ctx, asker.ID, binary.BigEndian.Uint64(question[:])); err == nil {
			answer[0] = 1
			binary.BigEndian.PutUint64(answer[1:], index)
		}
		_ = conn.SetWriteDeadline(time.Now().Add(barrierTimeout))
		if _, err := conn.Write(answer[:]); err != nil {
			return
		}
	}
}

// readIndexFor is the index that a follower must have applied. Where this leader and the follower are a majority
// by themselves, the follower's question is the confirmation: when it asked it was in this leader's term, so
// it had voted for no later leader, nor had this one, and without either there was none.
func (n *Cluster) readIndexFor(ctx context.Context, follower string, term uint64) (uint64, error) {
	if n.majorityWith(follower) && n.raft.Load().CurrentTerm() == term && n.leads() {
		return n.config.Store.Applied(), nil
	}
	if !n.leads() {
		return 0, errNotLeader
	}
	ctx, cancel := context.WithTimeout(ctx, barrierTimeout)
	defer cancel()
	return n.barrier.confirm(ctx)
}

// majorityWith reports whether this node and the other one are a majority of the voters.
func (n *Cluster) majorityWith(other string) bool {
	voters, votes := 0, 0
	for _, s := range n.servers() {
		if s.Suffrage == raft.Voter {
			voters++
			if id := string(s.ID); id == n.id || id == other {
				votes++
			}
		}
	}
	return 2*votes > voters
}
