package kms

import "fmt"

// Kind says what went wrong in the words of the domain. The API layer maps each kind to one AWS error
// code. Kinds travel between nodes, so their values are fixed; all start with KindPrefix.
type Kind string

// KindPrefix tells kinds of this package from those of package secret.
const KindPrefix = "kms-"

// The kinds of refusal.
const (
	KindNotFound           Kind = "kms-not-found"
	KindExists             Kind = "kms-exists"
	KindDisabled           Kind = "kms-disabled"
	KindInvalidState       Kind = "kms-invalid-state"
	KindUnsupported        Kind = "kms-unsupported"
	KindLimitExceeded      Kind = "kms-limit-exceeded"
	KindInvalidArn         Kind = "kms-invalid-arn"
	KindInvalidAlias       Kind = "kms-invalid-alias"
	KindInvalidMarker      Kind = "kms-invalid-marker"
	KindInvalidKeyUsage    Kind = "kms-invalid-key-usage"
	KindInvalidCiphertext  Kind = "kms-invalid-ciphertext"
	KindIncorrectKey       Kind = "kms-incorrect-key"
	KindInvalidMac         Kind = "kms-invalid-mac"
	KindInvalidGrantToken  Kind = "kms-invalid-grant-token"
	KindInvalidImportToken Kind = "kms-invalid-import-token"
	KindExpiredImportToken Kind = "kms-expired-import-token"
	KindIncorrectMaterial  Kind = "kms-incorrect-key-material"
	KindMalformedPolicy    Kind = "kms-malformed-policy"
	KindTag                Kind = "kms-tag"
	KindAccessDenied       Kind = "kms-access-denied"
	KindDryRun             Kind = "kms-dry-run"
	KindValidation         Kind = "kms-validation"
	// KindConflict says that the state changed between reading and proposing: read again, decide again.
	// It never reaches a client.
	KindConflict Kind = "kms-conflict"
)

// Error is a refusal with the message that the client sees. It never contains key material or plaintext.
type Error struct {
	Kind    Kind
	Message string
}

func (e *Error) Error() string { return e.Message }

// Is makes errors.Is(err, &Error{Kind: k}) match any error of that kind.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Kind == e.Kind && (t.Message == "" || t.Message == e.Message)
}

// Errorf makes an Error of kind k.
func Errorf(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Message: fmt.Sprintf(format, args...)}
}

// ErrConflict says that the key changed while the request was being decided.
var ErrConflict = &Error{KindConflict, "The KMS key changed while the request was being decided."}

// ErrInvalidCiphertext says that a ciphertext was not made by the key, was altered, or was opened
// with another encryption context. Which of these is not said.
var ErrInvalidCiphertext = &Error{Kind: KindInvalidCiphertext}
