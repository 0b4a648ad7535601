package iam

import "coffer/refusal"

// The kinds of refusal to authenticate.
const (
	KindMissingToken        refusal.Kind = "missing-authentication-token"
	KindIncompleteSignature refusal.Kind = "incomplete-signature"
	KindUnrecognizedClient  refusal.Kind = "unrecognized-client"
	KindInvalidSignature    refusal.Kind = "invalid-signature"
)

var (
	errMissing      = refusal.New(KindMissingToken, "Missing Authentication Token")
	errUnrecognized = refusal.New(KindUnrecognizedClient, "The security token included in the request is invalid.")
	errDate         = incomplete("Date must be in ISO-8601 'basic format'. " +
		"See https://docs.aws.amazon.com/general/latest/gr/sigv4-date-handling.html")
	errMismatch = refusal.New(KindInvalidSignature,
		"The request signature we calculated does not match the signature you "+
			"provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
)

func incomplete(format string, args ...any) *refusal.Error {
	return refusal.Errorf(KindIncompleteSignature, format, args...)
}

func invalid(format string, args ...any) *refusal.Error {
	return refusal.Errorf(KindInvalidSignature, format, args...)
}
