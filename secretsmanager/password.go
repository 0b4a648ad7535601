package secretsmanager

import (
	"context"

	"coffer/secret"
)

// GetRandomPasswordInput is the input of GetRandomPassword.
type GetRandomPasswordInput struct {
	PasswordLength          *int64  `json:"PasswordLength"`
	ExcludeCharacters       *string `json:"ExcludeCharacters"`
	ExcludeNumbers          *bool   `json:"ExcludeNumbers"`
	ExcludePunctuation      *bool   `json:"ExcludePunctuation"`
	ExcludeUppercase        *bool   `json:"ExcludeUppercase"`
	ExcludeLowercase        *bool   `json:"ExcludeLowercase"`
	IncludeSpace            *bool   `json:"IncludeSpace"`
	RequireEachIncludedType *bool   `json:"RequireEachIncludedType"`
}

// GetRandomPasswordOutput is the answer of GetRandomPassword.
type GetRandomPasswordOutput struct {
	RandomPassword string `json:"RandomPassword"`
}

const defaultPasswordLength = 32

// GetRandomPassword draws a password; nothing is stored.
func (s *Service) GetRandomPassword(ctx context.Context, in *GetRandomPasswordInput) (*GetRandomPasswordOutput, error) {
	var c checks
	c.Between("PasswordLength", in.PasswordLength, 1, 4096)
	c.Length("ExcludeCharacters", in.ExcludeCharacters, 0, 4096)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if err := s.Unsealed(ctx); err != nil {
		return nil, err
	}
	password, err := secret.PasswordOptions{
		Length: limit(in.PasswordLength, defaultPasswordLength), Exclude: deref(in.ExcludeCharacters),
		NoNumbers: isTrue(in.ExcludeNumbers), NoPunctuation: isTrue(in.ExcludePunctuation),
		NoUppercase: isTrue(in.ExcludeUppercase), NoLowercase: isTrue(in.ExcludeLowercase),
		Space:    isTrue(in.IncludeSpace),
		AnyTypes: in.RequireEachIncludedType != nil && !*in.RequireEachIncludedType,
	}.Password(s.Random)
	if err != nil {
		return nil, err
	}
	return &GetRandomPasswordOutput{password}, nil
}
