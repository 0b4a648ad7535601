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

// A read-index connection carries a node's questions, and the answers of another. The question is the asker's
// term; the answer is what the answerer is in that term, and how far a leader has applied. Numbers have 8 bytes,
// big-endian. Nodes under load ask hundreds of times a second, and an HTTP call cost as much as several reads.
const (
	indexProtocol    = "coffer-read-index"
	indexQuestionLen = 8
	indexAnswerLen   = 1 + 8
)

// What the answerer is.
const (
	inAnotherTerm byte = iota
	leadsTerm
	followsTerm
)

// indexClient asks one other node, over a connection that it keeps. It is used by one goroutine at a time.
type indexClient struct {
	peers *peerPort
	node  string
	conn  net.Conn
}

// ask asks node, in this node's term. index is there if the answer is leadsTerm.
func (c *indexClient) ask(node string, term uint64, timeout time.Duration) (is byte, index uint64, err error) {
	deadline := time.Now().Add(timeout)
	if c.node != node {
		c.close()
	}
	if c.conn == nil {
		ctx, cancel := context.WithDeadline(context.Background(), deadline)
		defer cancel()
		conn, err := c.peers.dial(ctx, node, indexProtocol)
		if err != nil {
			return 0, 0, err
		}
		c.node, c.conn = node, conn
	}
	var answer [indexAnswerLen]byte
	_ = c.conn.SetDeadline(deadline)
	_, err = c.conn.Write(binary.BigEndian.AppendUint64(nil, term))
	if err == nil {
		_, err = io.ReadFull(c.conn, answer[:])
	}
	if err != nil {
		c.close()
		return 0, 0, err
	}
	return answer[0], binary.BigEndian.Uint64(answer[1:]), nil
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
		term := binary.BigEndian.Uint64(question[:])
		if index, err := n.readIndexFor(ctx, asker.ID, term); err == nil {
			answer[0] = leadsTerm
			binary.BigEndian.PutUint64(answer[1:], index)
		} else if r := n.raft.Load(); r != nil && r.CurrentTerm() == term {
			answer[0] = followsTerm
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

// voucher asks followers to confirm that a leader still leads, in place of Raft's own check, which takes messages
// to all of them. After a failure it leaves that to Raft for a while, and turns to another follower then.
type voucher struct {
	follower indexClient
	failed   string // who did not answer the last time
	resting  time.Time
}

const (
	vouchTimeout = 50 * time.Millisecond
	vouchRest    = time.Second
)

// vouched reports whether a follower confirms that no later leader had been elected when it was asked: it is in
// this leader's term, and the two are a majority.
func (n *Cluster) vouched(term uint64) bool {
	v := &n.barrier.voucher
	if time.Now().Before(v.resting) {
		return false
	}
	follower := ""
	for _, s := range n.servers() {
		id := string(s.ID)
		if id != n.id && s.Suffrage == raft.Voter && (follower == "" || id == v.follower.node || follower == v.failed) {
			follower = id
		}
	}
	if follower == "" || !n.majorityWith(follower) {
		return false
	}
	if is, _, err := v.follower.ask(follower, term, vouchTimeout); err != nil || is != followsTerm {
		v.failed, v.resting = follower, time.Now().Add(vouchRest)
		v.follower.node = ""
		return false
	}
	v.failed = ""
	return n.leads() && n.raft.Load().CurrentTerm() == term
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
