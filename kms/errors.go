package kms

import "coffer/refusal"

// The kinds of refusal.
const (
	KindNotFound           refusal.Kind = "kms-not-found"
	KindExists             refusal.Kind = "kms-exists"
	KindDisabled           refusal.Kind = "kms-disabled"
	KindInvalidState       refusal.Kind = "kms-invalid-state"
	KindUnsupported        refusal.Kind = "kms-unsupported"
	KindLimitExceeded      refusal.Kind = "kms-limit-exceeded"
	KindInvalidArn         refusal.Kind = "kms-invalid-arn"
	KindInvalidAlias       refusal.Kind = "kms-invalid-alias"
	KindInvalidMarker      refusal.Kind = "kms-invalid-marker"
	KindInvalidKeyUsage    refusal.Kind = "kms-invalid-key-usage"
	KindInvalidCiphertext  refusal.Kind = "kms-invalid-ciphertext"
	KindIncorrectKey       refusal.Kind = "kms-incorrect-key"
	KindInvalidMac         refusal.Kind = "kms-invalid-mac"
	KindInvalidGrantToken  refusal.Kind = "kms-invalid-grant-token"
	KindInvalidImportToken refusal.Kind = "kms-invalid-import-token"
	KindExpiredImportToken refusal.Kind = "kms-expired-import-token"
	KindIncorrectMaterial  refusal.Kind = "kms-incorrect-key-material"
	KindMalformedPolicy    refusal.Kind = "kms-malformed-policy"
	KindTag                refusal.Kind = "kms-tag"
	KindAccessDenied       refusal.Kind = "kms-access-denied"
	KindDryRun             refusal.Kind = "kms-dry-run"
)

// ErrInvalidCiphertext says that a ciphertext was not made by the key, was altered, or was opened
// with another encryption context. Which of these is not said.
var ErrInvalidCiphertext = refusal.New(KindInvalidCiphertext, "")
