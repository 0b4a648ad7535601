package fsm

import (
	"fmt"

	"coffer/refusal"
)

// Outcome is what applying a command came to. It travels back to the node that proposed, and is kept for when the
// command is proposed again.
type Outcome struct {
	Refused *refusal.Error `cbor:"1,keyasint,omitempty"`
	Labels  []string       `cbor:"2,keyasint,omitempty"` // of the version that was added
	Count   int            `cbor:"3,keyasint,omitempty"` // secrets purged

	Received *Received `cbor:"4,keyasint,omitempty"` // what came of another region's state

	// Unknown says why the command was not carried out, though it may have been before; empty if that is not so.
	Unknown string `cbor:"5,keyasint,omitempty"`
}

func (o *Outcome) isZero() bool {
	return o.Refused == nil && o.Labels == nil && o.Count == 0 && o.Received == nil && o.Unknown == ""
}

// Err is the refusal as an error, nil if the command was carried out. It wraps ErrUnknownFate if nobody can say.
func (o Outcome) Err() error {
	switch {
	case o.Unknown != "":
		return fmt.Errorf("%w: %s", ErrUnknownFate, o.Unknown)
	case o.Refused != nil:
		return o.Refused
	}
	return nil
}
