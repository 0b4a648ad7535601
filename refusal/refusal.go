// Package refusal is the one error of the rules: what kind of refusal it is, in the words of the domain, and the
// message that the client sees. The rooms of the rules (secret, kms, iam) name their kinds, the state machine carries
// refusals between nodes, and one table (package serving) gives each kind its AWS error code.
package refusal

import (
	"errors"
	"fmt"
)

// Kind says what went wrong. Kinds travel between nodes and regions, so their values are fixed, and different in all
// rooms.
type Kind string

// Kinds that belong to no room.
const (
	// KindValidation is a request that breaks a constraint of the service model.
	KindValidation Kind = "validation"
	// KindConflict says that the state changed between reading and proposing: read again, decide again. It never
	// reaches a client.
	KindConflict Kind = "conflict"
)

// Error is a refusal. Its message never contains a secret value, key material or plaintext.
type Error struct {
	Kind    Kind   `cbor:"1,keyasint"`
	Message string `cbor:"2,keyasint"`
}

// ErrConflict says that what a request is about changed while it was being decided.
var ErrConflict = New(KindConflict, "What the request is about changed while it was being decided.")

// New makes a refusal.
func New(kind Kind, message string) *Error { return &Error{Kind: kind, Message: message} }

// Errorf makes a refusal whose message is formatted.
func Errorf(kind Kind, format string, args ...any) *Error {
	return New(kind, fmt.Sprintf(format, args...))
}

// Of is the refusal that err is or wraps, nil if it is none.
func Of(err error) *Error {
	if err == nil {
		return nil // at no cost: this is asked of each command that is applied
	}
	var refused *Error
	if !errors.As(err, &refused) {
		return nil
	}
	return refused
}

func (e *Error) Error() string { return e.Message }

// Is makes errors.Is(err, &Error{Kind: k}) match any refusal of that kind.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Kind == e.Kind && (t.Message == "" || t.Message == e.Message)
}
