package kms

import (
	"slices"

	"coffer/refusal"
)

// Limits of the service.
const (
	MaxTags       = 50
	MaxOnDemand   = 25 // rotations on demand of one key
	MinPeriod     = 90 // days between automatic rotations
	MaxPeriod     = 2560
	DefaultPeriod = 365
)

const millisPerDay = 24 * 60 * 60 * 1000

// Change is what a command does to a key. It is carried out at At, in milliseconds since 1970, on a key that
// errors call ARN. Its methods are the rules of the key state table (AWS KMS developer guide, "Key states of
// AWS KMS keys"): each changes the key or refuses and leaves it as it was.
type Change struct {
	Key *Key
	ARN string
	At  int64
}

// Usable refuses unless the key can be used for cryptographic operations.
func (c Change) Usable() error {
	switch c.Key.State(c.At) {
	case Disabled:
		return refusal.Errorf(KindDisabled, "%s is disabled.", c.ARN)
	case PendingDeletion:
		return c.pendingDeletion()
	case PendingImport:
		return c.pendingImport()
	}
	return nil
}

func (c Change) pendingDeletion() error {
	return refusal.Errorf(KindInvalidState, "%s is pending deletion.", c.ARN)
}

func (c Change) pendingImport() error {
	return refusal.Errorf(KindInvalidState, "%s is pending import.", c.ARN)
}

// unmanaged refuses what nobody may do to a managed key.
func (c Change) unmanaged() error {
	if c.Key.Managed {
		return refusal.Errorf(KindAccessDenied, "%s is managed by the service: it can't be changed or used directly.", c.ARN)
	}
	return nil
}

// kept refuses a managed key and one that is pending deletion.
func (c Change) kept() error {
	if err := c.unmanaged(); err != nil {
		return err
	}
	if c.Key.DeletionAt != 0 {
		return c.pendingDeletion()
	}
	return nil
}

// SetEnabled enables or disables the key.
func (c Change) SetEnabled(enabled bool) error {
	if err := c.kept(); err != nil {
		return err
	}
	if c.Key.State(c.At) == PendingImport {
		return c.pendingImport()
	}
	c.Key.Off = !enabled
	return nil
}

// ScheduleDeletion begins the waiting period, which ends at due.
func (c Change) ScheduleDeletion(due int64) error {
	if err := c.kept(); err != nil {
		return err
	}
	c.Key.DeletionAt = due
	return nil
}

// CancelDeletion ends the waiting period. It leaves the key disabled.
func (c Change) CancelDeletion() error {
	if err := c.unmanaged(); err != nil {
		return err
	}
	if c.Key.DeletionAt == 0 {
		return refusal.Errorf(KindInvalidState, "%s is not pending deletion.", c.ARN)
	}
	c.Key.DeletionAt, c.Key.Off = 0, true
	return nil
}

// SetDescription replaces the description.
func (c Change) SetDescription(text string) error {
	if err := c.kept(); err != nil {
		return err
	}
	c.Key.Description = text
	return nil
}

// SetPolicy replaces the key policy.
func (c Change) SetPolicy(policy string) error {
	if err := c.unmanaged(); err != nil {
		return err
	}
	c.Key.Policy = policy
	return nil
}

// Tag adds tags, replacing the values of keys that are there.
func (c Change) Tag(tags []Tag) error {
	if err := c.kept(); err != nil {
		return err
	}
	merged := slices.Clone(c.Key.Tags)
	for _, t := range tags {
		if i := slices.IndexFunc(merged, func(m Tag) bool { return m.Key == t.Key }); i >= 0 {
			merged[i].Value = t.Value
		} else {
			merged = append(merged, t)
		}
	}
	if len(merged) > MaxTags {
		return refusal.Errorf(KindLimitExceeded, "A KMS key can have at most %d tags; this request would make it %d.",
			MaxTags, len(merged))
	}
	c.Key.Tags = merged
	return nil
}

// Untag removes the tags with the keys; keys that are not there are ignored.
func (c Change) Untag(keys []string) error {
	if err := c.kept(); err != nil {
		return err
	}
	c.Key.Tags = slices.DeleteFunc(slices.Clone(c.Key.Tags), func(t Tag) bool { return slices.Contains(keys, t.Key) })
	return nil
}
