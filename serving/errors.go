package serving

import (
	"errors"
	"net/http"
	"strings"

	"coffer/fsm"
	"coffer/iam"
	"coffer/kms"
	"coffer/refusal"
	"coffer/secret"
)

// APIError is an error as a client of the AWS API sees it.
type APIError struct {
	Code    string
	Message string
	Status  int
}

// Of is the error as the API that target (X-Amz-Target) names spells it.
func (e *APIError) Of(target string) *APIError {
	if e.Code == internalError && strings.HasPrefix(target, "TrentService.") {
		return &APIError{"KMSInternalException", e.Message, e.Status}
	}
	return e
}

const internalError = "InternalServiceError"

func (e *APIError) Error() string { return e.Code + ": " + e.Message }

// codes is the one table from what was refused to AWS error codes.
var codes = map[refusal.Kind]string{
	refusal.KindValidation: "ValidationException",

	secret.KindNotFound:         "ResourceNotFoundException",
	secret.KindExists:           "ResourceExistsException",
	secret.KindInvalidParameter: "InvalidParameterException",
	secret.KindInvalidRequest:   "InvalidRequestException",
	secret.KindLimitExceeded:    "LimitExceededException",
	secret.KindInvalidNextToken: "InvalidNextTokenException",
	secret.KindMalformedPolicy:  "MalformedPolicyDocumentException",
	secret.KindPublicPolicy:     "PublicPolicyException",
	secret.KindEncryption:       "EncryptionFailure",
	secret.KindDecryption:       "DecryptionFailure",

	kms.KindNotFound:           "NotFoundException",
	kms.KindExists:             "AlreadyExistsException",
	kms.KindDisabled:           "DisabledException",
	kms.KindInvalidState:       "KMSInvalidStateException",
	kms.KindUnsupported:        "UnsupportedOperationException",
	kms.KindLimitExceeded:      "LimitExceededException",
	kms.KindInvalidArn:         "InvalidArnException",
	kms.KindInvalidAlias:       "InvalidAliasNameException",
	kms.KindInvalidMarker:      "InvalidMarkerException",
	kms.KindInvalidKeyUsage:    "InvalidKeyUsageException",
	kms.KindInvalidCiphertext:  "InvalidCiphertextException",
	kms.KindIncorrectKey:       "IncorrectKeyException",
	kms.KindInvalidMac:         "KMSInvalidMacException",
	kms.KindInvalidGrantToken:  "InvalidGrantTokenException",
	kms.KindInvalidImportToken: "InvalidImportTokenException",
	kms.KindExpiredImportToken: "ExpiredImportTokenException",
	kms.KindIncorrectMaterial:  "IncorrectKeyMaterialException",
	kms.KindMalformedPolicy:    "MalformedPolicyDocumentException",
	kms.KindTag:                "TagException",
	kms.KindAccessDenied:       "AccessDeniedException",
	kms.KindDryRun:             "DryRunOperationException",

	iam.KindMissingToken:        "MissingAuthenticationTokenException",
	iam.KindIncompleteSignature: "IncompleteSignatureException",
	iam.KindUnrecognizedClient:  "UnrecognizedClientException",
	iam.KindInvalidSignature:    "InvalidSignatureException",
}

// Errors of the protocol itself.
var (
	ErrUnknownOperation = &APIError{"UnknownOperationException",
		"The operation that X-Amz-Target names does not exist here.", http.StatusBadRequest}
	ErrTooLarge = &APIError{"SerializationException",
		"The request is larger than any valid request.", http.StatusBadRequest}
	// ErrThrottled says that nothing was done, since the node has too much to do. SDKs try again, by code and by status.
	ErrThrottled = &APIError{"ThrottlingException",
		"This node has too much to do at the moment. Nothing was done: send it again.", http.StatusServiceUnavailable}
)

// ErrSerialization is a body that can't be read as the operation's input. what says where, and never what was sent.
func ErrSerialization(what string) *APIError {
	return &APIError{"SerializationException", what, http.StatusBadRequest}
}

// ToAPIError maps any error to what the client sees. What went wrong inside is not told to clients.
func ToAPIError(err error) *APIError {
	var api *APIError
	var unavailable *UnavailableError
	refused := refusal.Of(err)
	switch {
	case errors.As(err, &api):
		return api
	case refused != nil && refused.Kind == secret.KindMoving:
		return &APIError{"ServiceUnavailableException", refused.Message, http.StatusServiceUnavailable}
	case refused != nil && codes[refused.Kind] != "":
		return &APIError{codes[refused.Kind], refused.Message, http.StatusBadRequest}
	case errors.Is(err, fsm.ErrDamaged):
		return &APIError{"ServiceUnavailableException",
			"This node found its stored data damaged and has stopped serving. Ask another node.", http.StatusServiceUnavailable}
	case errors.As(err, &unavailable):
		return &APIError{"ServiceUnavailableException", unavailable.Message, http.StatusServiceUnavailable}
	}
	return &APIError{internalError,
		"An error occurred on the server side. The server's log says more, by the request's id.",
		http.StatusInternalServerError}
}
