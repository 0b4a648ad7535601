package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"

	"github.com/fxamacker/cbor/v2"
)

// Command is one change. What is random or depends on a clock is in it; what depends on the state is
// decided when it is applied. Times are milliseconds since 1970.
type Command interface {
	apply(*writeTx) (Outcome, error)
}

// Kind numbers a command's type in the log. Numbers are never reused.
type Kind uint16

// The kinds of commands.
var kinds = map[Kind]func() Command{
	1:  func() Command { return &InitCluster{} },
	2:  func() Command { return &CreateSecret{} },
	3:  func() Command { return &PutVersion{} },
	4:  func() Command { return &UpdateSecret{} },
	5:  func() Command { return &MoveLabel{} },
	6:  func() Command { return &ScheduleDeletion{} },
	7:  func() Command { return &DeleteNow{} },
	8:  func() Command { return &CancelDeletion{} },
	9:  func() Command { return &TagSecret{} },
	10: func() Command { return &UntagSecret{} },
	11: func() Command { return &SetPolicy{} },
	12: func() Command { return &RecordAccess{} },
	13: func() Command { return &PurgeDue{} },
	14: func() Command { return &Checkpoint{} },
	15: func() Command { return &CreateKey{} },
	16: func() Command { return &EnableKey{} },
	17: func() Command { return &ScheduleKeyDeletion{} },
	18: func() Command { return &CancelKeyDeletion{} },
	19: func() Command { return &SetKeyDescription{} },
	20: func() Command { return &SetKeyPolicy{} },
	21: func() Command { return &TagKey{} },
	22: func() Command { return &UntagKey{} },
	23: func() Command { return &SetKeyRotation{} },
	24: func() Command { return &RotateKey{} },
	25: func() Command { return &RotateToImported{} },
	26: func() Command { return &ImportMaterial{} },
	27: func() Command { return &DeleteMaterial{} },
	28: func() Command { return &SetAlias{} },
	29: func() Command { return &DeleteAlias{} },
	30: func() Command { return &EndKeys{} },
	31: func() Command { return &RotateRootKey{} },
	32: func() Command { return &RewrapValues{} },
	33: func() Command { return &BeginEpoch{} },
	34: func() Command { return &AddLinks{} },
	35: func() Command { return &RemoveLinks{} },
	36: func() Command { return &Promote{} },
	37: func() Command { return &Receive{} },
	38: func() Command { return &ReceiveVersions{} },
	39: func() Command { return &ReceiveNotice{} },
	40: func() Command { return &Settle{} },
	41: func() Command { return &HandOver{} },
	42: func() Command { return &SetPeer{} },
	43: func() Command { return &SetSuccessors{} },
	44: func() Command { return &ReportPeer{} },
	45: func() Command { return &AddReplicationKey{} },
	46: func() Command { return &Repair{} },
	47: func() Command { return &RestoreDisplaced{} },
	48: func() Command { return &RaiseFormat{} },
}

// kindOf is the inverse of kinds.
var kindOf = func() map[reflect.Type]Kind {
	m := make(map[reflect.Type]Kind, len(kinds))
	for kind, make := range kinds {
		m[reflect.TypeOf(make())] = kind
	}
	return m
}()

// Decoded is a command, and the rest of the envelope in which it travels to the leader and stands in the log.
type Decoded struct {
	Command Command
	ID      ID
	Base    uint64 // index that the proposer had applied when it made the id
}

// Encode puts a command into its envelope, as bytes: the id, the base and the command's [Kind] (uvarints), and the
// command (CBOR). id is random, and was made when the proposer had applied base; a command that is proposed again keeps
// both.
func Encode(id ID, base uint64, c Command) []byte {
	return encodeAs(kindOf[reflect.TypeOf(c)], id, base, c)
}

func encodeAs(kind Kind, id ID, base uint64, c Command) []byte {
	b := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(b)
	b.Reset()
	b.Write(id[:])
	b.Write(binary.AppendUvarint(b.AvailableBuffer(), base))
	b.Write(binary.AppendUvarint(b.AvailableBuffer(), uint64(kind)))
	if err := encoding.MarshalToBuffer(c, b); err != nil {
		panic(err) // only for types that cannot be encoded
	}
	return bytes.Clone(b.Bytes())
}

// ErrUnknownCommand says that the log holds a command of a newer version of Coffer.
var ErrUnknownCommand = errors.New("the log holds a command that this version of Coffer does not know: install the " +
	"version that the other nodes run")

// Decode is the inverse of Encode. It refuses whatever Encode does not make, and with ErrUnknownCommand what a newer
// version may have made.
func Decode(b []byte) (Decoded, error) {
	if len(b) < IDLen {
		return Decoded{}, fmt.Errorf("decode a command: it has %d bytes, fewer than an id", len(b))
	}
	base, rest, whole := cutUvarint(b[IDLen:])
	kind, body, known := cutUvarint(rest)
	if !whole || !known {
		return Decoded{}, errors.New("decode a command: its base and kind can't be read")
	}
	make, ok := kinds[Kind(kind)]
	if !ok || kind > math.MaxUint16 {
		return Decoded{}, fmt.Errorf("%w (kind %d)", ErrUnknownCommand, kind)
	}
	c := make()
	if err := decodeStrictly(body, c); err != nil {
		return Decoded{}, fmt.Errorf("decode a command of kind %d: %w", kind, err)
	}
	return Decoded{c, ID(b), base}, nil
}

// cutUvarint takes a number in its shortest form from b.
func cutUvarint(b []byte) (n uint64, rest []byte, ok bool) {
	n, length := binary.Uvarint(b)
	if length <= 0 || length > 1 && b[length-1] == 0 {
		return 0, nil, false
	}
	return n, b[length:], true
}

func decodeStrictly(b []byte, into any) error {
	const cborMap = 5
	if len(b) == 0 || b[0]>>5 != cborMap { // null would do for anything
		return errors.New("it is no map")
	}
	err := decoding.Unmarshal(b, into)
	var unknown *cbor.UnknownFieldError
	if errors.As(err, &unknown) {
		return fmt.Errorf("%w (%w)", ErrUnknownCommand, err)
	}
	return err
}
