package secret

import "fmt"

// Kind says what went wrong in the words of the domain. The API layer maps each kind to one AWS
// error code; nothing else names a code. Kinds travel between nodes, so their values are fixed.
type Kind string

// The kinds of refusal.
const (
	KindNotFound         Kind = "not-found"
	KindExists           Kind = "exists"
	KindInvalidParameter Kind = "invalid-parameter"
	KindInvalidRequest   Kind = "invalid-request"
	KindLimitExceeded    Kind = "limit-exceeded"
	KindInvalidNextToken Kind = "invalid-next-token"
	KindMalformedPolicy  Kind = "malformed-policy"
	KindPublicPolicy     Kind = "public-policy"
	KindValidation       Kind = "validation"
	KindEncryption       Kind = "encryption"
	KindDecryption       Kind = "decryption"
	// The primary role of the secret is on its way to another region: a client tries again there.
	KindMoving Kind = "moving"
	// Refusals of what another region sends.
	KindEnded      Kind = "link-ended"  // the link was ended here, for ever
	KindTaken      Kind = "name-taken"  // by a secret that the sender may not touch
	KindIncomplete Kind = "incomplete"  // versions are missing: everything must be sent
	KindStale      Kind = "stale-state" // from a deposed leader, or older than what is here
	// KindConflict says that the state changed between reading and proposing: read again, decide again.
	// It never reaches a client.
	KindConflict Kind = "conflict"
)

// Error is a refusal with the message that the client sees. The message never contains a secret value.
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

// Refusals whose messages AWS fixes.
var (
	ErrNotFound          = &Error{KindNotFound, "Secrets Manager can't find the specified secret."}
	ErrMarkedForDeletion = &Error{KindInvalidRequest, "You can't perform this operation on the secret because it was marked for deletion."}
	ErrNameScheduled     = &Error{KindInvalidRequest, "You can't create this secret because a secret with this name is already scheduled for deletion."}
	ErrLabelNotOnVersion = &Error{KindInvalidRequest, "You provided a VersionStage that is not associated to the provided VersionId."}
	ErrNoToken           = &Error{KindInvalidRequest, "You must provide a ClientRequestToken value. We recommend a UUID-type value."}
	ErrInvalidName       = &Error{KindValidation, "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!"}
	ErrNextToken         = &Error{KindInvalidNextToken, "The NextToken value is invalid. Start the list again without it."}
	ErrReplica           = &Error{KindInvalidRequest, "Operation not permitted on a replica secret. Call must be made in primary secret's region."}
	ErrNotReplica        = &Error{KindInvalidRequest, "You can't stop the replication to this secret: it isn't a replica. Call this in the region of the replica."}
	ErrHasReplicas       = &Error{KindInvalidRequest, "You can't delete a primary secret that is replicated to other regions. Delete its replicas with RemoveRegionsFromReplication first."}
	ErrReplicaRegion     = &Error{KindInvalidParameter, "Invalid replica region."}
	ErrMoving            = &Error{KindMoving, "The primary role of this secret is being moved to another region. Try again in a moment."}
	ErrEnded             = &Error{KindEnded, "The replication link was ended in the replica region."}
	ErrIncomplete        = &Error{KindIncomplete, "The replica lacks versions of the secret: everything must be sent again."}
	ErrStale             = &Error{KindStale, "A newer state or a newer leader of the primary's region was seen before."}
	ErrConflict          = &Error{KindConflict, "The secret changed while the request was being decided."}
)

// ErrExists says that a live secret has the name.
func ErrExists(name string) *Error {
	return Errorf(KindExists, "The operation failed because the secret %s already exists.", name)
}

// ErrTokenInUse says that version id exists with another value.
func ErrTokenInUse(id, arn string) *Error {
	return Errorf(KindExists, "You can't use ClientRequestToken %s because that value is already in use for a version of secret %s.", id, arn)
}

// ErrTaken says that a state that another region sent can't take the name, and why.
func ErrTaken(why string) *Error {
	return Errorf(KindTaken, "Secret with this name already exists in this region: %s", why)
}

// ErrNoReplicaIn says that the secret has no link to region.
func ErrNoReplicaIn(region string) *Error {
	return Errorf(KindInvalidParameter, "The secret is not replicated to the region %s.", region)
}

// ErrNoVersion says that no version has the id.
func ErrNoVersion(id string) *Error {
	return Errorf(KindNotFound, "Secrets Manager can't find the specified secret value for VersionId: %s", id)
}

// ErrNoLabel says that no version with a value has the staging label.
func ErrNoLabel(label string) *Error {
	return Errorf(KindNotFound, "Secrets Manager can't find the specified secret value for staging label: %s", label)
}
