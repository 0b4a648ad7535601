package service

import (
	"context"

	"coffer/fsm"
	"coffer/kms"
	"coffer/refusal"
	"coffer/serving"
)

// AliasInput is the input of CreateAlias and UpdateAlias.
type AliasInput struct {
	AliasName   *string `json:"AliasName"`
	TargetKeyID *string `json:"TargetKeyId"`
}

// CreateAlias gives a key another name.
func (s *Service) CreateAlias(ctx context.Context, in *AliasInput) (*Empty, error) {
	return s.setAlias(ctx, in, true)
}

// UpdateAlias points an alias to another key.
func (s *Service) UpdateAlias(ctx context.Context, in *AliasInput) (*Empty, error) {
	return s.setAlias(ctx, in, false)
}

func (s *Service) setAlias(ctx context.Context, in *AliasInput, isNew bool) (*Empty, error) {
	var c checks
	c.Required("AliasName", in.AliasName != nil)
	c.Length("AliasName", in.AliasName, 1, 256)
	c.Required("TargetKeyId", in.TargetKeyID != nil)
	c.Length("TargetKeyId", in.TargetKeyID, 1, 2048)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if err := kms.CheckAlias(*in.AliasName); err != nil {
		return nil, err
	}
	now := s.Millis()
	_, err := s.change(ctx, *in.TargetKeyID, func(_ *serving.View, _ *kms.Key, ref fsm.KeyRef) (fsm.Command, error) {
		return &fsm.SetAlias{Ref: ref, At: now, Name: *in.AliasName, New: isNew}, nil
	})
	return &Empty{}, err
}

// DeleteAliasInput is the input of DeleteAlias.
type DeleteAliasInput struct {
	AliasName *string `json:"AliasName"`
}

// DeleteAlias removes an alias; the key stays.
func (s *Service) DeleteAlias(ctx context.Context, in *DeleteAliasInput) (*Empty, error) {
	var c checks
	c.Required("AliasName", in.AliasName != nil)
	c.Length("AliasName", in.AliasName, 1, 256)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if err := kms.CheckAlias(*in.AliasName); err != nil {
		return nil, err
	}
	_, err := s.Write(ctx, func(v *serving.View) (fsm.Command, error) {
		if v.Alias(v.Account, *in.AliasName) == nil {
			return nil, refusal.Errorf(kms.KindNotFound, "Alias %s is not found.",
				kms.AliasARN(v.Region, v.Account, *in.AliasName))
		}
		return &fsm.DeleteAlias{Account: v.Account, Name: *in.AliasName}, nil
	})
	return &Empty{}, err
}

// ListAliasesInput is the input of ListAliases.
type ListAliasesInput struct {
	KeyID  *string `json:"KeyId"`
	Limit  *int64  `json:"Limit"`
	Marker *string `json:"Marker"`
}

// ListAliasesOutput is the answer of ListAliases.
type ListAliasesOutput struct {
	Aliases    []AliasEntry `json:"Aliases"`
	NextMarker string       `json:"NextMarker,omitempty"`
	Truncated  bool         `json:"Truncated"`
}

// AliasEntry is an alias in a list.
type AliasEntry struct {
	AliasName       string       `json:"AliasName"`
	AliasArn        string       `json:"AliasArn"`
	TargetKeyID     string       `json:"TargetKeyId"`
	CreationDate    serving.Time `json:"CreationDate"`
	LastUpdatedDate serving.Time `json:"LastUpdatedDate"`
}

// ListAliases lists all aliases, or those of one key, by name.
func (s *Service) ListAliases(ctx context.Context, in *ListAliasesInput) (*ListAliasesOutput, error) {
	var c checks
	c.Length("KeyId", in.KeyID, 1, 2048)
	c.page(in.Limit, in.Marker)
	if err := c.Err(); err != nil {
		return nil, err
	}
	var out *ListAliasesOutput
	err := s.Read(ctx, func(v *serving.View) error {
		target := ""
		if in.KeyID != nil {
			key, err := find(v, *in.KeyID, false)
			if err != nil {
				return err
			}
			target = key.ID
		}
		from, err := after(v, in.Marker, "ListAliases", target)
		if err != nil {
			return err
		}
		aliases := newPage[AliasEntry](in.Limit, 50)
		v.Aliases(v.Account, from, func(a *kms.Alias) bool {
			if target != "" && a.KeyID != target {
				return true
			}
			return aliases.add(a.Name, AliasEntry{
				a.Name, kms.AliasARN(v.Region, v.Account, a.Name), a.KeyID, serving.Time(a.Created), serving.Time(a.Updated),
			})
		})
		next, err := aliases.marker(v, "ListAliases", target)
		out = &ListAliasesOutput{aliases.items, next, aliases.more}
		return err
	})
	return out, err
}
