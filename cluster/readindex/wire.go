package readindex

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
)

// Protocol is the name of read-index connections where protocols are negotiated (ALPN).
const Protocol = "coffer-read-index"

// A connection carries the questions of the node that dialed it and the other's answers, in order. Numbers are
// big-endian. Nodes under load ask hundreds of times a second, and an HTTP call cost as much as several reads.
//
//	question  kind (1 byte), cluster id (16 bytes), the asker's term (8 bytes), round (8 bytes)
//	answer    whether it is granted (1 byte), the question's round (8 bytes), the answerer's term (8 bytes),
//	          the leader's applied index (8 bytes)
const (
	questionLen = 1 + 16 + 8 + 8
	answerLen   = 1 + 8 + 8 + 8
)

// What is asked.
const (
	askTerm  byte = iota + 1 // by a leader, of a voter: its term
	askIndex                 // by any node, of the leader: how far it must have applied to read
)

// ClusterID names a cluster: two groups of nodes of one region never answer each other's questions.
type ClusterID [16]byte

// IDOf is a cluster's id as it stands in questions.
func IDOf(cluster string) ClusterID {
	sum := sha256.Sum256([]byte(cluster))
	return ClusterID(sum[:16])
}

type question struct {
	kind    byte
	cluster ClusterID
	term    uint64
	round   uint64
}

type answer struct {
	granted bool
	round   uint64
	term    uint64
	index   uint64
}

func (q question) bytes() []byte {
	b := append(make([]byte, 0, questionLen), q.kind)
	b = append(b, q.cluster[:]...)
	b = binary.BigEndian.AppendUint64(b, q.term)
	return binary.BigEndian.AppendUint64(b, q.round)
}

func readQuestion(from io.Reader) (q question, err error) {
	var b [questionLen]byte
	if _, err := io.ReadFull(from, b[:]); err != nil {
		return q, err
	}
	q.kind = b[0]
	copy(q.cluster[:], b[1:])
	q.term, q.round = binary.BigEndian.Uint64(b[17:]), binary.BigEndian.Uint64(b[25:])
	return q, nil
}

func (a answer) bytes() []byte {
	b := make([]byte, 1, answerLen)
	if a.granted {
		b[0] = 1
	}
	b = binary.BigEndian.AppendUint64(b, a.round)
	b = binary.BigEndian.AppendUint64(b, a.term)
	return binary.BigEndian.AppendUint64(b, a.index)
}

func readAnswer(from io.Reader) (a answer, err error) {
	var b [answerLen]byte
	if _, err := io.ReadFull(from, b[:]); err != nil {
		return a, err
	}
	a.granted = b[0] == 1
	a.round, a.term = binary.BigEndian.Uint64(b[1:]), binary.BigEndian.Uint64(b[9:])
	a.index = binary.BigEndian.Uint64(b[17:])
	return a, nil
}
