package secretsmanager

import (
	"context"

	"coffer/fsm"
	"coffer/iam"
	"coffer/refusal"
	"coffer/secret"
)

// UpdateSecretInput is the input of UpdateSecret.
type UpdateSecretInput struct {
	valueInput
	SecretID    *string `json:"SecretId"`
	Description *string `json:"Description"`
	KmsKeyID    *string `json:"KmsKeyId"`
	Type        *string `json:"Type"`
}

// UpdateSecret changes the description and the KMS key, and adds a current version if the input has a value.
func (s *Service) UpdateSecret(ctx context.Context, in *UpdateSecretInput) (*VersionOutput, error) {
	var c checks
	c.secretID(in.SecretID)
	c.Length("Description", in.Description, 0, 2048)
	c.Length("KmsKeyId", in.KmsKeyID, 0, 2048)
	c.Length("Type", in.Type, 0, 256)
	in.check(&c)
	if err := c.Err(); err != nil {
		return nil, err
	}
	value, err := in.value()
	switch {
	case err != nil:
		return nil, err
	case deref(in.Type) != "":
		return nil, notYet("Type", noExternal)
	}
	out := &VersionOutput{}
	if value != nil {
		out.VersionID = in.ClientRequestToken
	}
	_, err = s.write(ctx, func(v *view) (fsm.Command, error) {
		find := v.findPrimary
		if in.KmsKeyID != nil && in.Description == nil && value == nil { // a replica's key is its own region's
			find = v.find
		}
		found, err := find(*in.SecretID, false)
		if err != nil {
			return nil, err
		}
		out.ARN, out.Name = v.arn(found), found.Name
		command := &fsm.UpdateSecret{Ref: refTo(found), At: s.Millis(), Description: in.Description}
		keyID := found.KeyID
		if in.KmsKeyID != nil {
			if keyID, err = v.namedKey(*in.KmsKeyID); err != nil {
				return nil, err
			}
			if keyID != found.KeyID {
				if command.Key, err = v.moveTo(keyID, found); err != nil {
					return nil, err
				}
			}
		}
		if value != nil {
			same, err := v.sameVersion(found, *in.ClientRequestToken, *value)
			if err != nil {
				return nil, err
			}
			if !same {
				key, err := v.usableKey(keyID)
				if err != nil {
					return nil, err
				}
				if command.Version, err = v.seal(key, out.ARN, *in.ClientRequestToken, *value); err != nil {
					return nil, err
				}
			}
		}
		if command.Version == nil && command.Description == nil && command.Key == nil {
			return nil, nil
		}
		return command, nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// moveTo wraps the data keys of the versions that are current, previous or pending under another KMS key (API
// reference, UpdateSecret, KmsKeyId). Other versions stay under the key that they have.
func (v *view) moveTo(keyID string, s *secret.Secret) (*fsm.NewKey, error) {
	key, err := v.usableKey(keyID)
	if err != nil {
		return nil, err
	}
	to := &fsm.NewKey{KeyID: keyID, Revision: s.Revision}
	done := map[string]bool{}
	for _, label := range []string{secret.Current, secret.Previous, secret.Pending} {
		id := s.Labels.On(label)
		if id == "" || done[id] {
			continue
		}
		done[id] = true
		version := v.Version(s, id)
		if version == nil || version.KeyID == key.ID {
			continue
		}
		value := v.Value(s, version)
		if value == nil {
			continue
		}
		again, err := v.rewrap(key, v.arn(s), id, value.WrappedKey)
		if err != nil {
			return nil, err
		}
		to.Rewraps = append(to.Rewraps, again)
	}
	return to, nil
}

// UpdateSecretVersionStageInput is the input of UpdateSecretVersionStage.
type UpdateSecretVersionStageInput struct {
	SecretID            *string `json:"SecretId"`
	VersionStage        *string `json:"VersionStage"`
	RemoveFromVersionID *string `json:"RemoveFromVersionId"`
	MoveToVersionID     *string `json:"MoveToVersionId"`
}

// UpdateSecretVersionStage attaches a label to a version, moves it, or removes it.
func (s *Service) UpdateSecretVersionStage(ctx context.Context, in *UpdateSecretVersionStageInput) (*Named, error) {
	var c checks
	c.secretID(in.SecretID)
	c.Required("VersionStage", in.VersionStage != nil)
	c.Length("VersionStage", in.VersionStage, 1, 256)
	c.Length("RemoveFromVersionId", in.RemoveFromVersionID, 32, 64)
	c.Length("MoveToVersionId", in.MoveToVersionID, 32, 64)
	if err := c.Err(); err != nil {
		return nil, err
	}
	return s.change(ctx, *in.SecretID, false, func(found *secret.Secret) (fsm.Command, error) {
		return &fsm.MoveLabel{
			Ref: refTo(found), At: s.Millis(), Label: *in.VersionStage, From: deref(in.RemoveFromVersionID),
			To: deref(in.MoveToVersionID),
		}, nil
	})
}

// change proposes one command about one secret and answers its ARN and name.
func (s *Service) change(ctx context.Context, id string, scheduled bool,
	command func(*secret.Secret) (fsm.Command, error)) (*Named, error) {
	out := &Named{}
	_, err := s.write(ctx, func(v *view) (fsm.Command, error) {
		found, err := v.findPrimary(id, scheduled)
		if err != nil {
			return nil, err
		}
		out.ARN, out.Name = v.arn(found), found.Name
		return command(found)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// TagResourceInput is the input of TagResource.
type TagResourceInput struct {
	SecretID *string `json:"SecretId"`
	Tags     []Tag   `json:"Tags"`
}

// TagResource attaches tags.
func (s *Service) TagResource(ctx context.Context, in *TagResourceInput) (*Empty, error) {
	var c checks
	c.secretID(in.SecretID)
	c.Required("Tags", in.Tags != nil)
	c.tags(in.Tags)
	if err := c.Err(); err != nil {
		return nil, err
	}
	tags, err := toTags(in.Tags)
	if err != nil {
		return nil, err
	}
	_, err = s.change(ctx, *in.SecretID, false, func(found *secret.Secret) (fsm.Command, error) {
		return &fsm.TagSecret{Ref: refTo(found), At: s.Millis(), Tags: tags}, nil
	})
	return &Empty{}, err
}

// UntagResourceInput is the input of UntagResource.
type UntagResourceInput struct {
	SecretID *string  `json:"SecretId"`
	TagKeys  []string `json:"TagKeys"`
}

// UntagResource removes tags by key; keys that are not there are no error.
func (s *Service) UntagResource(ctx context.Context, in *UntagResourceInput) (*Empty, error) {
	var c checks
	c.secretID(in.SecretID)
	c.Required("TagKeys", in.TagKeys != nil)
	for i := range in.TagKeys {
		c.Length("TagKeys", &in.TagKeys[i], 1, 128)
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	_, err := s.change(ctx, *in.SecretID, false, func(found *secret.Secret) (fsm.Command, error) {
		return &fsm.UntagSecret{Ref: refTo(found), At: s.Millis(), Keys: in.TagKeys}, nil
	})
	return &Empty{}, err
}

// PutResourcePolicyInput is the input of PutResourcePolicy.
type PutResourcePolicyInput struct {
	SecretID          *string `json:"SecretId"`
	ResourcePolicy    *string `json:"ResourcePolicy"`
	BlockPublicPolicy *bool   `json:"BlockPublicPolicy"`
}

const maxPolicy = 20480

// PutResourcePolicy stores a resource policy, which is parsed strictly.
func (s *Service) PutResourcePolicy(ctx context.Context, in *PutResourcePolicyInput) (*Named, error) {
	var c checks
	c.secretID(in.SecretID)
	c.Required("ResourcePolicy", in.ResourcePolicy != nil)
	c.Length("ResourcePolicy", in.ResourcePolicy, 1, maxPolicy)
	if err := c.Err(); err != nil {
		return nil, err
	}
	policy, err := iam.ParseResourcePolicy(*in.ResourcePolicy)
	if err != nil {
		return nil, refusal.Errorf(secret.KindMalformedPolicy, "This resource policy contains a syntax error: %v.", err)
	}
	if isTrue(in.BlockPublicPolicy) && policy.Public() {
		return nil, refusal.Errorf(secret.KindPublicPolicy,
			"You can't attach this resource policy: it allows access to everyone, and BlockPublicPolicy is set.")
	}
	return s.change(ctx, *in.SecretID, false, func(found *secret.Secret) (fsm.Command, error) {
		return &fsm.SetPolicy{Ref: refTo(found), At: s.Millis(), Policy: *in.ResourcePolicy}, nil
	})
}

// DeleteResourcePolicy removes the resource policy, if there is one.
func (s *Service) DeleteResourcePolicy(ctx context.Context, in *SecretIDInput) (*Named, error) {
	var c checks
	c.secretID(in.SecretID)
	if err := c.Err(); err != nil {
		return nil, err
	}
	return s.change(ctx, *in.SecretID, false, func(found *secret.Secret) (fsm.Command, error) {
		if found.Policy == "" {
			return nil, nil
		}
		return &fsm.SetPolicy{Ref: refTo(found), At: s.Millis()}, nil
	})
}

// GetResourcePolicyOutput is the answer of GetResourcePolicy.
type GetResourcePolicyOutput struct {
	ARN            string `json:"ARN"`
	Name           string `json:"Name"`
	ResourcePolicy string `json:"ResourcePolicy,omitempty"`
}

// GetResourcePolicy answers the resource policy as it was put.
func (s *Service) GetResourcePolicy(ctx context.Context, in *SecretIDInput) (*GetResourcePolicyOutput, error) {
	var c checks
	c.secretID(in.SecretID)
	if err := c.Err(); err != nil {
		return nil, err
	}
	var out *GetResourcePolicyOutput
	err := s.read(ctx, func(v *view) error {
		found, err := v.find(*in.SecretID, false)
		if err != nil {
			return err
		}
		out = &GetResourcePolicyOutput{v.arn(found), found.Name, found.Policy}
		return nil
	})
	return out, err
}
