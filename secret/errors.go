package secret

import "coffer/refusal"

// The kinds of refusal.
const (
	KindNotFound         refusal.Kind = "not-found"
	KindExists           refusal.Kind = "exists"
	KindInvalidParameter refusal.Kind = "invalid-parameter"
	KindInvalidRequest   refusal.Kind = "invalid-request"
	KindLimitExceeded    refusal.Kind = "limit-exceeded"
	KindInvalidNextToken refusal.Kind = "invalid-next-token"
	KindMalformedPolicy  refusal.Kind = "malformed-policy"
	KindPublicPolicy     refusal.Kind = "public-policy"
	KindEncryption       refusal.Kind = "encryption"
	KindDecryption       refusal.Kind = "decryption"
	// The primary role of the secret is on its way to another region: a client tries again there.
	KindMoving refusal.Kind = "moving"
	// Refusals of what another region sends.
	KindEnded      refusal.Kind = "link-ended"  // the link was ended here, for ever
	KindTaken      refusal.Kind = "name-taken"  // by a secret that the sender may not touch
	KindIncomplete refusal.Kind = "incomplete"  // versions are missing: everything must be sent
	KindStale      refusal.Kind = "stale-state" // from a deposed leader, or older than what is here
)

// Refusals whose messages AWS fixes.
var (
	ErrNotFound          = refusal.New(KindNotFound, "Secrets Manager can't find the specified secret.")
	ErrMarkedForDeletion = refusal.New(KindInvalidRequest,
		"You can't perform this operation on the secret because it was marked for deletion.")
	ErrNameScheduled = refusal.New(KindInvalidRequest,
		"You can't create this secret because a secret with this name is already scheduled for deletion.")
	ErrLabelNotOnVersion = refusal.New(KindInvalidRequest,
		"You provided a VersionStage that is not associated to the provided VersionId.")
	ErrNoToken = refusal.New(KindInvalidRequest,
		"You must provide a ClientRequestToken value. We recommend a UUID-type value.")
	ErrInvalidName = refusal.New(refusal.KindValidation,
		"Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!")
	ErrNextToken = refusal.New(KindInvalidNextToken,
		"The NextToken value is invalid. Start the list again without it.")
	ErrReplica = refusal.New(KindInvalidRequest,
		"Operation not permitted on a replica secret. Call must be made in primary secret's region.")
	ErrNotReplica = refusal.New(KindInvalidRequest,
		"You can't stop the replication to this secret: it isn't a replica. Call this in the region of the replica.")
	ErrHasReplicas = refusal.New(KindInvalidRequest,
		"You can't delete a primary secret that is replicated to other regions. Delete its replicas with "+
			"RemoveRegionsFromReplication first.")
	ErrReplicaRegion = refusal.New(KindInvalidParameter, "Invalid replica region.")
	ErrMoving        = refusal.New(KindMoving,
		"The primary role of this secret is being moved to another region. Try again in a moment.")
	ErrEnded      = refusal.New(KindEnded, "The replication link was ended in the replica region.")
	ErrIncomplete = refusal.New(KindIncomplete,
		"The replica lacks versions of the secret: everything must be sent again.")
	ErrStale = refusal.New(KindStale,
		"A newer state or a newer leader of the primary's region was seen before.")
)

// ErrExists says that a live secret has the name.
func ErrExists(name string) *refusal.Error {
	return refusal.Errorf(KindExists, "The operation failed because the secret %s already exists.", name)
}

// ErrTokenInUse says that version id exists with another value.
func ErrTokenInUse(id, arn string) *refusal.Error {
	return refusal.Errorf(KindExists,
		"You can't use ClientRequestToken %s because that value is already in use for a version of secret %s.", id, arn)
}

// ErrTaken says that a state that another region sent can't take the name, and why.
func ErrTaken(why string) *refusal.Error {
	return refusal.Errorf(KindTaken, "Secret with this name already exists in this region: %s", why)
}

// ErrNoReplicaIn says that the secret has no link to region.
func ErrNoReplicaIn(region string) *refusal.Error {
	return refusal.Errorf(KindInvalidParameter, "The secret is not replicated to the region %s.", region)
}

// ErrNoVersion says that no version has the id.
func ErrNoVersion(id string) *refusal.Error {
	return refusal.Errorf(KindNotFound, "Secrets Manager can't find the specified secret value for VersionId: %s", id)
}

// ErrNoLabel says that no version with a value has the staging label.
func ErrNoLabel(label string) *refusal.Error {
	return refusal.Errorf(KindNotFound, "Secrets Manager can't find the specified secret value for staging label: %s",
		label)
}
