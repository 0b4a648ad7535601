package fsm

import (
	"coffer/kms"
	"coffer/secret"
	"errors"
	"fmt"
	"strings"
)

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
