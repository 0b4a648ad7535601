package replication

import (
	"bytes"
	"encoding/binary"

	"github.com/fxamacker/cbor/v2"

	"coffer/fsm"
	"coffer/refusal"
)

// The calls between regions. Who calls is in the caller's certificate, never in the question.
const (
	helloPath   = "/replication/hello"
	sendPath    = "/replication/send"
	comparePath = "/replication/compare"
)

// hello is how a leader makes itself known to another region, and asks for its public key.
type hello struct {
	KeyID     string     `cbor:"1,keyasint,omitempty"` // the key that was pinned
	Challenge []byte     `cbor:"2,keyasint,omitempty"` // an encapsulation to it
	Report    fsm.Report `cbor:"3,keyasint"`
}

// welcome is the answer. Proof shows that the holder of the pinned key vouches for the rest.
type welcome struct {
	KeyID  string `cbor:"1,keyasint"`
	Public []byte `cbor:"2,keyasint"`
	Epoch  int64  `cbor:"3,keyasint"`
	Proof  []byte `cbor:"4,keyasint,omitempty"`
}

// batch is messages in the order in which they were sealed, with one encapsulation.
type batch struct {
	Epoch    int64     `cbor:"1,keyasint"`
	Term     uint64    `cbor:"2,keyasint"`
	KeyID    string    `cbor:"3,keyasint"` // of the receiver's key that it is sealed to
	Enc      []byte    `cbor:"4,keyasint"`
	Messages []message `cbor:"5,keyasint"`
}

// kind says what a message holds.
type kind byte

const (
	stateMessage    kind = 1 // secretsmanager.State
	versionsMessage kind = 2 // secretsmanager.Versions
	noticeMessage   kind = 3 // fsm.Notice
)

type message struct {
	Kind     kind   `cbor:"1,keyasint"`
	Link     string `cbor:"2,keyasint"`
	Revision uint64 `cbor:"3,keyasint,omitempty"`
	Request  []byte `cbor:"4,keyasint,omitempty"` // id of the request that made the newest change in it, for the logs
	Sealed   []byte `cbor:"5,keyasint"`
}

// additional is what a message is bound to besides the batch.
func (m *message) additional() []byte {
	b := binary.BigEndian.AppendUint64([]byte{byte(m.Kind)}, m.Revision)
	return append(b, m.Link...)
}

// info is what a batch is bound to: from where, to where, by which key, in which epoch and term.
func (b *batch) info(source, target string) []byte {
	var out bytes.Buffer
	for _, part := range []string{"coffer replication v1", source, target, b.KeyID} {
		out.Write(binary.AppendUvarint(nil, uint64(len(part))))
		out.WriteString(part)
	}
	out.Write(binary.BigEndian.AppendUint64(nil, uint64(b.Epoch)))
	out.Write(binary.BigEndian.AppendUint64(nil, b.Term))
	return out.Bytes()
}

// results answer the messages of a batch, in their order.
type results struct {
	// UnknownKey says that the batch is sealed to a key that is not there: ask for the current one.
	UnknownKey bool     `cbor:"1,keyasint,omitempty"`
	Results    []result `cbor:"2,keyasint"`
}

type result struct {
	fsm.Received
	Refused     refusal.Kind `cbor:"6,keyasint,omitempty"`
	Why         string       `cbor:"7,keyasint,omitempty"`
	Unavailable bool         `cbor:"8,keyasint,omitempty"` // nothing was decided: send it again
}

// comparison asks for a digest of the replicas of the calling region's secrets, in ranges of their links' hashes, or,
// with Ranges, for the replicas in them.
type comparison struct {
	Ranges []byte `cbor:"1,keyasint,omitempty"`
}

type compared struct {
	Sums  []uint64 `cbor:"1,keyasint,omitempty"` // one a range
	Links []linked `cbor:"2,keyasint,omitempty"`
}

// linked is one replica as a comparison sees it.
type linked struct {
	Link        string `cbor:"1,keyasint"`
	Revision    uint64 `cbor:"2,keyasint"`
	Digest      uint64 `cbor:"3,keyasint"`
	AccessedDay int64  `cbor:"4,keyasint,omitempty"`
}

var encoding, decoding = func() (cbor.EncMode, cbor.DecMode) {
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err)
	}
	// Staging labels in their stored form are no UTF-8.
	dec, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxArrayElements: 1 << 20, UTF8: cbor.UTF8DecodeInvalid,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return enc, dec
}()
