package secretsmanager

import (
	"context"
	"errors"
	"time"

	"coffer/fsm"
	"coffer/refusal"
	"coffer/secret"
)

// DeleteSecretInput is the input of DeleteSecret.
type DeleteSecretInput struct {
	SecretID                   *string `json:"SecretId"`
	RecoveryWindowInDays       *int64  `json:"RecoveryWindowInDays"`
	ForceDeleteWithoutRecovery *bool   `json:"ForceDeleteWithoutRecovery"`
}

// DeleteSecretOutput is the answer of DeleteSecret.
type DeleteSecretOutput struct {
	ARN          string `json:"ARN"`
	DeletionDate Time   `json:"DeletionDate"`
	Name         string `json:"Name"`
}

const (
	minWindow     = 7
	defaultWindow = 30
)

// DeleteSecret starts a recovery window of 7 to 30 days, or deletes at once when forced.
func (s *Service) DeleteSecret(ctx context.Context, in *DeleteSecretInput) (*DeleteSecretOutput, error) {
	var c checks
	c.secretID(in.SecretID)
	if err := c.Err(); err != nil {
		return nil, err
	}
	force, window := isTrue(in.ForceDeleteWithoutRecovery), int64(defaultWindow)
	if in.RecoveryWindowInDays != nil {
		window = *in.RecoveryWindowInDays
		switch {
		case force:
			return nil, refusal.Errorf(secret.KindInvalidParameter,
				"You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.")
		case window < minWindow || window > defaultWindow:
			return nil, refusal.Errorf(secret.KindInvalidParameter,
				"The RecoveryWindowInDays value must be between 7 and 30 days (inclusive).")
		}
	}
	now := s.Millis()
	out := &DeleteSecretOutput{DeletionDate: Time(now)}
	if !force {
		out.DeletionDate += Time(window * millisPerDay)
	}
	_, err := s.write(ctx, func(v *view) (fsm.Command, error) {
		found, err := v.findPrimary(*in.SecretID, force)
		if force && errors.Is(err, secret.ErrNotFound) {
			return nil, s.absent(v, *in.SecretID, out)
		} else if err != nil {
			return nil, err
		}
		out.ARN, out.Name = v.arn(found), found.Name
		if force {
			return &fsm.DeleteNow{Ref: refTo(found)}, nil
		}
		return &fsm.ScheduleDeletion{Ref: refTo(found), At: now, Due: int64(out.DeletionDate)}, nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// absent answers a forced deletion of what does not exist, which succeeds: with the ARN that was asked
// for, or one of the form that the name would have had.
func (s *Service) absent(v *view, id string, out *DeleteSecretOutput) error {
	parsed, err := secret.ParseID(id)
	if err != nil {
		return err
	}
	if parsed.Region != "" {
		out.ARN = id
		parsed.Candidates(func(name, _ string) bool { out.Name = name; return false })
		return nil
	}
	suffix, err := secret.Suffix(s.Random)
	out.ARN, out.Name = secret.ARN(s.Region, v.Account, id, suffix), id
	return err
}

// RestoreSecret ends the recovery window. It is harmless on a live secret.
func (s *Service) RestoreSecret(ctx context.Context, in *SecretIDInput) (*Named, error) {
	var c checks
	c.secretID(in.SecretID)
	if err := c.Err(); err != nil {
		return nil, err
	}
	return s.change(ctx, *in.SecretID, true, func(found *secret.Secret) (fsm.Command, error) {
		if found.Deleted == 0 {
			return nil, nil
		}
		return &fsm.CancelDeletion{Ref: refTo(found), At: s.Millis()}, nil
	})
}

// purgeBatch bounds how many secrets one command deletes.
const purgeBatch = 100

// Purge deletes for good the secrets whose recovery window is over at a time, and returns how many. The leader runs it,
// with a time that it may rely on.
func (s *Service) Purge(ctx context.Context, at time.Time) (purged int, err error) {
	for {
		due := false
		err := s.Store.View(func(tx *fsm.Tx) error {
			oldest, ok := tx.OldestDeletion()
			due = ok && oldest <= at.UnixMilli()
			return nil
		})
		if err != nil || !due {
			return purged, err
		}
		out, err := s.Propose(ctx, &fsm.PurgeDue{At: at.UnixMilli(), Max: purgeBatch})
		if err != nil {
			return purged, err
		}
		purged += out.Count
	}
}
