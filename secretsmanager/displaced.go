package secretsmanager

import (
	"context"

	"github.com/google/uuid"

	"coffer/fsm"
	"coffer/iam"
	"coffer/refusal"
	"coffer/secret"
	"coffer/serving"
)

func (s *Service) id() (string, error) {
	id, err := uuid.NewRandomFromReader(s.Random)
	return id.String(), err
}

// DisplacedSecret is a secret that a replica took the place of.
type DisplacedSecret struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	ARN      string `json:"arn"`
	By       string `json:"by"`    // region of the primary whose replica took its place
	At       int64  `json:"at"`    // milliseconds since 1970
	Until    int64  `json:"until"` // when it is deleted for good
	Versions int    `json:"versions"`
}

// Displaced lists the displaced secrets of an account, the newest first.
func (s *Service) Displaced(ctx context.Context, account string) (out []DisplacedSecret, err error) {
	ctx = serving.WithCall(ctx, &serving.Call{Principal: iam.Root(account)})
	err = s.read(ctx, func(v *view) error {
		out = []DisplacedSecret{}
		for _, d := range v.AllDisplaced(account) {
			out = append(out, DisplacedSecret{
				d.DisplacedID(), d.Displaced.Name, v.arn(d), d.Displaced.By, d.Displaced.At, d.Deleted, d.Versions,
			})
		}
		return nil
	})
	return out, err
}

// RestoreDisplaced brings a displaced secret back under the name that it had, which must be free, or copies what has
// labels of it to a new secret with another name. It answers the ARN.
func (s *Service) RestoreDisplaced(ctx context.Context, account, id, name string) (arn string, err error) {
	if name != "" && !secret.ValidName(name) {
		return "", secret.ErrInvalidName
	}
	suffix, err := secret.Suffix(s.Random)
	if err != nil {
		return "", err
	}
	if _, err := uuid.Parse(id); err != nil {
		return "", refusal.Errorf(secret.KindNotFound, "There is no displaced secret with the id %s.", id)
	}
	_, err = s.write(s.internally(ctx, account), func(v *view) (fsm.Command, error) {
		aside := v.View.Displaced(account, id)
		command := &fsm.RestoreDisplaced{Account: account, ID: id, At: s.Millis()}
		if aside == nil {
			return command, nil // refused with the reason
		}
		arn = v.arn(aside)
		if name == "" || name == aside.Displaced.Name {
			return command, nil
		}
		command.As = &fsm.Ref{Account: account, Name: name, Suffix: suffix}
		arn = secret.ARN(s.Region, account, name, suffix)
		values, err := v.exportVersions(aside, aside.Labelled())
		if err != nil {
			return nil, err
		}
		command.Versions, err = v.received(aside.KeyID, arn, values)
		return command, err
	})
	return arn, err
}
