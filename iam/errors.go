package iam

import "fmt"

// Kind says why a request was not authenticated. The API layer maps it to an AWS error code.
type Kind string

// The kinds.
const (
	KindMissingToken        Kind = "missing-authentication-token"
	KindIncompleteSignature Kind = "incomplete-signature"
	KindUnrecognizedClient  Kind = "unrecognized-client"
	KindInvalidSignature    Kind = "invalid-signature"
)

// Error is a refusal to authenticate.
type Error struct {
	Kind    Kind
	Message string
}

func (e *Error) Error() string { return e.Message }

var (
	errMissing      = &Error{KindMissingToken, "Missing Authentication Token"}
	errUnrecognized = &Error{KindUnrecognizedClient, "The security token included in the request is invalid."}
	errDate         = incomplete("Date must be in ISO-8601 'basic format'. " +
		"See https://docs.aws.amazon.com/general/latest/gr/sigv4-date-handling.html")
	errMismatch = &Error{KindInvalidSignature, "The request signature we calculated does not match the signature you " +
		"provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."}
)

func incomplete(format string, args ...any) *Error {
	return &Error{KindIncompleteSignature, fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) *Error {
	return &Error{KindInvalidSignature, fmt.Sprintf(format, args...)}
}
