package secretsmanager

import (
	"context"
	"errors"

	"coffer/fsm"
	"coffer/kms"
	"coffer/secret"
	"coffer/serving"
)

// Service carries out operations. Each takes the caller and the wanted consistency from its context
// (serving.WithCall).
type Service struct {
	*serving.Base
	dataKeys *kms.Cache
	access   *accessLog
}

// New makes a Service.
func New(b *serving.Base) *Service {
	return &Service{Base: b, dataKeys: kms.NewCache(), access: newAccessLog()}
}

// view is a serving.View with what these operations do in it.
type view struct {
	*serving.View
	s *Service
}

func (s *Service) viewed(do func(*view) error) func(*serving.View) error {
	return func(v *serving.View) error { return do(&view{v, s}) }
}

func (s *Service) read(ctx context.Context, do func(*view) error) error {
	return s.Read(ctx, s.viewed(do))
}

func (s *Service) write(ctx context.Context, prepare func(*view) (fsm.Command, error)) (fsm.Outcome, error) {
	return s.Write(ctx, func(v *serving.View) (fsm.Command, error) { return prepare(&view{v, s}) })
}

// find is the secret that id means. One scheduled for deletion is refused unless scheduled is true.
func (v *view) find(id string, scheduled bool) (*secret.Secret, error) {
	parsed, err := secret.ParseID(id)
	if err != nil {
		return nil, err
	}
	if parsed.Region != "" && (parsed.Region != v.Region || parsed.Account != v.Account) {
		return nil, secret.ErrNotFound
	}
	found := v.Find(v.Account, parsed)
	switch {
	case found == nil:
		return nil, secret.ErrNotFound
	case found.Deleted != 0 && !scheduled:
		return nil, secret.ErrMarkedForDeletion
	}
	return found, nil
}

// findPrimary is find for what changes a secret: a replica is refused.
func (v *view) findPrimary(id string, scheduled bool) (*secret.Secret, error) {
	found, err := v.find(id, scheduled)
	switch {
	case err != nil || found.Primary == "":
		return found, err
	case v.Link(found.Primary, found) != nil: // its last state as a primary is on its way
		return nil, secret.ErrMoving
	}
	return nil, secret.ErrReplica
}

func (v *view) arn(s *secret.Secret) string { return s.ARN(v.Region) }

func refTo(s *secret.Secret) fsm.Ref {
	return fsm.Ref{Account: s.Account, Name: s.Name, Suffix: s.Suffix}
}

const millisPerDay = 24 * 60 * 60 * 1000

// openPage answers the position in a page token, nil without one. What SealPage did not make for this query fails
// with secret.ErrNextToken.
func (v *view) openPage(query []string, token *string) ([]byte, error) {
	position, err := v.OpenPage(query, token)
	if errors.Is(err, serving.ErrToken) {
		return nil, secret.ErrNextToken
	}
	return position, err
}
