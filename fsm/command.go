package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/fxamacker/cbor/v2"

	"coffer/kms"
	"coffer/secret"
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

// Cluster is what a region's cluster is, decided once when it is formed.
type Cluster struct {
	ID        string `cbor:"1,keyasint"`
	Region    string `cbor:"2,keyasint"`
	Account   string `cbor:"3,keyasint"`
	RootKeyID string `cbor:"4,keyasint"`
	Created   int64  `cbor:"5,keyasint"`
	// DefaultKeyID is the key behind alias/aws/secretsmanager.
	DefaultKeyID string `cbor:"6,keyasint"`
	// RootKey is how nodes reach the root key since it was last rotated (rootkey.Schemes); it is no secret.
	RootKey string `cbor:"7,keyasint,omitempty"`
	// Format is the format of the state ([FormatRange]).
	Format uint64 `cbor:"9,keyasint"`
	// Epoch is when the state began that other regions know: at the forming, or at the last restore (milliseconds since
	// 1970). Of what the region sends, other regions take nothing of an earlier epoch than they have seen.
	Epoch int64 `cbor:"8,keyasint,omitempty"`
}

// Ref names a secret whose ARN the proposer has seen. A secret deleted and created anew under the name is another one.
type Ref struct {
	Account string `cbor:"1,keyasint"`
	Name    string `cbor:"2,keyasint"`
	Suffix  string `cbor:"3,keyasint"`
}

// NewVersion is a sealed value that becomes a version.
type NewVersion struct {
	ID         string `cbor:"1,keyasint"`
	KeyID      string `cbor:"2,keyasint"`
	WrappedKey []byte `cbor:"3,keyasint"`
	Sealed     []byte `cbor:"4,keyasint"`
	Binary     bool   `cbor:"5,keyasint,omitempty"`
}

// NewKey puts a secret under another KMS key.
type NewKey struct {
	KeyID    string      `cbor:"1,keyasint,omitempty"` // the default key's if empty
	Revision uint64      `cbor:"2,keyasint"`           // of the secret that Rewraps were made for
	Rewraps  []Rewrapped `cbor:"3,keyasint,omitempty"`
}

// Rewrapped is a version's data key, wrapped anew.
type Rewrapped struct {
	Version    string `cbor:"1,keyasint"`
	KeyID      string `cbor:"2,keyasint"`
	WrappedKey []byte `cbor:"3,keyasint"`
}

// The commands.
type (
	// InitCluster forms the cluster's state: who it is, and its default key. The first one wins.
	InitCluster struct {
		Cluster Cluster `cbor:"1,keyasint"`
		Key     kms.Key `cbor:"2,keyasint"`
	}
	// CreateSecret makes a secret, with its first version if Version is there.
	CreateSecret struct {
		Ref         Ref          `cbor:"1,keyasint"`
		At          int64        `cbor:"2,keyasint"`
		Description string       `cbor:"3,keyasint,omitempty"`
		Tags        []secret.Tag `cbor:"4,keyasint,omitempty"`
		Version     *NewVersion  `cbor:"5,keyasint,omitempty"`
		KeyID       string       `cbor:"6,keyasint,omitempty"` // of the KMS key; the default key's if empty

		Links []secret.NewLink `cbor:"7,keyasint,omitempty"`
	}
	// PutVersion adds a version and attaches Labels to it.
	PutVersion struct {
		Ref     Ref        `cbor:"1,keyasint"`
		At      int64      `cbor:"2,keyasint"`
		Version NewVersion `cbor:"3,keyasint"`
		Labels  []string   `cbor:"4,keyasint,omitempty"`
	}
	// UpdateSecret changes the description and the KMS key, and adds a current version, where they are there.
	UpdateSecret struct {
		Ref         Ref         `cbor:"1,keyasint"`
		At          int64       `cbor:"2,keyasint"`
		Description *string     `cbor:"3,keyasint,omitempty"`
		Version     *NewVersion `cbor:"4,keyasint,omitempty"`
		Key         *NewKey     `cbor:"5,keyasint,omitempty"`
	}
	// MoveLabel takes Label from version From and puts it on version To (secret.Secret.MoveLabel).
	MoveLabel struct {
		Ref   Ref    `cbor:"1,keyasint"`
		At    int64  `cbor:"2,keyasint"`
		Label string `cbor:"3,keyasint"`
		From  string `cbor:"4,keyasint,omitempty"`
		To    string `cbor:"5,keyasint,omitempty"`
	}
	// ScheduleDeletion starts the recovery window, which ends at Due.
	ScheduleDeletion struct {
		Ref Ref   `cbor:"1,keyasint"`
		At  int64 `cbor:"2,keyasint"`
		Due int64 `cbor:"3,keyasint"`
	}
	// DeleteNow deletes a secret, live or scheduled, for good.
	DeleteNow struct {
		Ref Ref `cbor:"1,keyasint"`
	}
	// CancelDeletion ends the recovery window; the secret is live again.
	CancelDeletion struct {
		Ref Ref   `cbor:"1,keyasint"`
		At  int64 `cbor:"2,keyasint"`
	}
	// TagSecret attaches tags.
	TagSecret struct {
		Ref  Ref          `cbor:"1,keyasint"`
		At   int64        `cbor:"2,keyasint"`
		Tags []secret.Tag `cbor:"3,keyasint"`
	}
	// UntagSecret removes tags by key.
	UntagSecret struct {
		Ref  Ref      `cbor:"1,keyasint"`
		At   int64    `cbor:"2,keyasint"`
		Keys []string `cbor:"3,keyasint"`
	}
	// SetPolicy stores the resource policy; an empty one removes it.
	SetPolicy struct {
		Ref    Ref    `cbor:"1,keyasint"`
		At     int64  `cbor:"2,keyasint"`
		Policy string `cbor:"3,keyasint,omitempty"`
	}
	// RecordAccess notes the days on which versions were read.
	RecordAccess struct {
		Reads []Access `cbor:"1,keyasint"`
	}
	// PurgeDue deletes for good at most Max secrets whose recovery window ended before At.
	PurgeDue struct {
		At  int64 `cbor:"1,keyasint"`
		Max int   `cbor:"2,keyasint"`
	}
	// Checkpoint changes nothing; each node keeps the digest of its state at this entry.
	Checkpoint struct{}
)

// Access is one version read on a day (days since 1970).
type Access struct {
	Ref     Ref    `cbor:"1,keyasint"`
	Version string `cbor:"2,keyasint"`
	Day     int64  `cbor:"3,keyasint"`
}

// Outcome is what applying a command came to. It travels back to the node that proposed, and is kept for when the command
// is proposed again.
type Outcome struct {
	Refused *Refusal `cbor:"1,keyasint,omitempty"`
	Labels  []string `cbor:"2,keyasint,omitempty"` // of the version that was added
	Count   int      `cbor:"3,keyasint,omitempty"` // secrets purged

	Received *Received `cbor:"4,keyasint,omitempty"` // what came of another region's state

	// Unknown says why the command was not carried out, though it may have been before; empty if that is not so.
	Unknown string `cbor:"5,keyasint,omitempty"`
}

func (o *Outcome) isZero() bool {
	return o.Refused == nil && o.Labels == nil && o.Count == 0 && o.Received == nil && o.Unknown == ""
}

// Refusal is a secret.Error or a kms.Error on its way between nodes.
type Refusal struct {
	Kind    string `cbor:"1,keyasint"`
	Message string `cbor:"2,keyasint"`
}

// refusal is err as a Refusal, nil if it is none.
func refusal(err error) *Refusal {
	if err == nil {
		return nil
	}
	var ofSecret *secret.Error
	var ofKey *kms.Error
	switch {
	case errors.As(err, &ofSecret):
		return &Refusal{string(ofSecret.Kind), ofSecret.Message}
	case errors.As(err, &ofKey):
		return &Refusal{string(ofKey.Kind), ofKey.Message}
	}
	return nil
}

// Err is the refusal as an error, nil if the command was carried out. It wraps ErrUnknownFate if nobody can say.
func (o Outcome) Err() error {
	switch {
	case o.Unknown != "":
		return fmt.Errorf("%w: %s", ErrUnknownFate, o.Unknown)
	case o.Refused == nil:
		return nil
	}
	if strings.HasPrefix(o.Refused.Kind, kms.KindPrefix) {
		return &kms.Error{Kind: kms.Kind(o.Refused.Kind), Message: o.Refused.Message}
	}
	return &secret.Error{Kind: secret.Kind(o.Refused.Kind), Message: o.Refused.Message}
}

// Envelope is a command as it travels to the leader and in the log.
type Envelope struct {
	ID   []byte          `cbor:"1,keyasint"` // IDLen bytes
	Kind Kind            `cbor:"2,keyasint"`
	Body cbor.RawMessage `cbor:"3,keyasint"`
	Base uint64          `cbor:"4,keyasint"` // index that the proposer had applied when it made the id
}

// Encode puts a command into its envelope, as bytes. id is random, and was made when the proposer had applied base; a
// command that is proposed again keeps both.
func Encode(id ID, base uint64, c Command) []byte {
	return marshal(Envelope{ID: id[:], Base: base, Kind: kindOf[reflect.TypeOf(c)], Body: marshal(c)})
}

// ErrUnknownCommand says that the log holds a command of a newer version of Coffer.
var ErrUnknownCommand = errors.New("the log holds a command that this version of Coffer does not know: install the version that the other nodes run")

// Decode is the inverse of Encode. It refuses whatever Encode does not make, and with ErrUnknownCommand what a newer
// version may have made.
func Decode(b []byte) (Envelope, Command, error) {
	var e Envelope
	if err := decodeStrictly(b, &e); err != nil {
		return e, nil, fmt.Errorf("decode a command: %w", err)
	}
	make, ok := kinds[e.Kind]
	if !ok {
		return e, nil, fmt.Errorf("%w (kind %d)", ErrUnknownCommand, e.Kind)
	}
	if len(e.ID) != IDLen {
		return e, nil, fmt.Errorf("decode a command: its id has %d bytes", len(e.ID))
	}
	c := make()
	if err := decodeStrictly(e.Body, c); err != nil {
		return e, nil, fmt.Errorf("decode a command of kind %d: %w", e.Kind, err)
	}
	return e, c, nil
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

// A log entry is a batch of encoded commands: one byte of format version, the xxHash64 of the rest, and a CBOR array of byte strings.
const (
	entryVersion = 1
	entryHeader  = 1 + 8
)

// EncodeEntry makes the log entry of a batch of encoded commands.
func EncodeEntry(commands [][]byte) []byte {
	size := entryHeader + 16
	for _, c := range commands {
		size += len(c) + 5
	}
	b := make([]byte, entryHeader, size)
	b[0] = entryVersion
	b = appendHead(b, 4<<5, len(commands)) // CBOR array
	for _, c := range commands {
		b = append(appendHead(b, 2<<5, len(c)), c...) // CBOR byte string
	}
	binary.BigEndian.PutUint64(b[1:], xxhash.Sum64(b[entryHeader:]))
	return b
}

// appendHead appends the head of a CBOR item (RFC 8949, section 3).
func appendHead(b []byte, major byte, n int) []byte {
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n < 1<<8:
		return append(b, major|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
}

// EntrySum is the checksum that a log entry carries. An entry that does not match it fails with ErrDamaged.
func EntrySum(b []byte) (uint64, error) {
	if len(b) < entryHeader {
		return 0, fmt.Errorf("%w: a log entry of %d bytes", ErrDamaged, len(b))
	}
	sum := binary.BigEndian.Uint64(b[1:])
	if xxhash.Sum64(b[entryHeader:]) != sum {
		return 0, fmt.Errorf("%w: a log entry does not match its checksum", ErrDamaged)
	}
	return sum, nil
}

// DecodeEntry is the inverse of EncodeEntry. An entry that does not match its checksum fails with ErrDamaged.
func DecodeEntry(b []byte) ([][]byte, error) {
	if _, err := EntrySum(b); err != nil {
		return nil, err
	}
	if b[0] != entryVersion {
		return nil, fmt.Errorf("%w (entry version %d)", ErrUnknownCommand, b[0])
	}
	var commands [][]byte
	if err := decoding.Unmarshal(b[entryHeader:], &commands); err != nil {
		return nil, fmt.Errorf("a log entry can't be decoded: %w", err)
	}
	return commands, nil
}
