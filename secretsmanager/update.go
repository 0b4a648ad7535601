package secretsmanager

import (
	"context"

	"coffer/fsm"
	"coffer/iam"
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

// UpdateSecret changes the description, and adds a current version if the input has a value.
func (s *Service) UpdateSecret(ctx context.Context, in *UpdateSecretInput) (*VersionOutput, error) {
	var c checks
	c.secretID(in.SecretID)
	c.length("Description", in.Description, 0, 2048)
	c.length("KmsKeyId", in.KmsKeyID, 0, 2048)
	c.length("Type", in.Type, 0, 256)
	in.check(&c)
	if err := c.err(); err != nil {
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
		found, err := v.find(*in.SecretID, false)
		if err != nil {
			return nil, err
		}
		out.ARN, out.Name = v.arn(found), found.Name
		if err := v.checkKey(in.KmsKeyID); err != nil {
			return nil, err
		}
		command := &fsm.UpdateSecret{Ref: refTo(found), At: s.millis(), Description: in.Description}
		if value != nil {
			same, err := v.sameVersion(found, *in.ClientRequestToken, *value)
			if err != nil {
				return nil, err
			}
			if !same {
				if command.Version, err = v.seal(out.ARN, *in.ClientRequestToken, *value); err != nil {
					return nil, err
				}
			}
		}
		if command.Version == nil && command.Description == nil {
			return nil, nil
		}
		return command, nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
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
	c.required("VersionStage", in.VersionStage != nil)
	c.length("VersionStage", in.VersionStage, 1, 256)
	c.length("RemoveFromVersionId", in.RemoveFromVersionID, 32, 64)
	c.length("MoveToVersionId", in.MoveToVersionID, 32, 64)
	if err := c.err(); err != nil {
		return nil, err
	}
	return s.change(ctx, *in.SecretID, false, func(found *secret.Secret) (fsm.Command, error) {
		return &fsm.MoveLabel{Ref: refTo(found), At: s.millis(), Label: *in.VersionStage, From: deref(in.RemoveFromVersionID), To: deref(in.MoveToVersionID)}, nil
	})
}

// change proposes one command about one secret and answers its ARN and name.
func (s *Service) change(ctx context.Context, id string, scheduled bool, command func(*secret.Secret) (fsm.Command, error)) (*Named, error) {
	out := &Named{}
	_, err := s.write(ctx, func(v *view) (fsm.Command, error) {
		found, err := v.find(id, scheduled)
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
	c.required("Tags", in.Tags != nil)
	c.tags(in.Tags)
	if err := c.err(); err != nil {
		return nil, err
	}
	tags, err := toTags(in.Tags)
	if err != nil {
		return nil, err
	}
	_, err = s.change(ctx, *in.SecretID, false, func(found *secret.Secret) (fsm.Command, error) {
		return &fsm.TagSecret{Ref: refTo(found), At: s.millis(), Tags: tags}, nil
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
	c.required("TagKeys", in.TagKeys != nil)
	for i := range in.TagKeys {
		c.length("TagKeys", &in.TagKeys[i], 1, 128)
	}
	if err := c.err(); err != nil {
		return nil, err
	}
	_, err := s.change(ctx, *in.SecretID, false, func(found *secret.Secret) (fsm.Command, error) {
		return &fsm.UntagSecret{Ref: refTo(found), At: s.millis(), Keys: in.TagKeys}, nil
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
	c.required("ResourcePolicy", in.ResourcePolicy != nil)
	c.length("ResourcePolicy", in.ResourcePolicy, 1, maxPolicy)
	if err := c.err(); err != nil {
		return nil, err
	}
	policy, err := iam.ParseResourcePolicy(*in.ResourcePolicy)
	if err != nil {
		return nil, secret.Errorf(secret.KindMalformedPolicy, "This resource policy contains a syntax error: %v.", err)
	}
	if isTrue(in.BlockPublicPolicy) && policy.Public() {
		return nil, secret.Errorf(secret.KindPublicPolicy, "You can't attach this resource policy: it allows access to everyone, and BlockPublicPolicy is set.")
	}
	return s.change(ctx, *in.SecretID, false, func(found *secret.Secret) (fsm.Command, error) {
		return &fsm.SetPolicy{Ref: refTo(found), At: s.millis(), Policy: *in.ResourcePolicy}, nil
	})
}

// DeleteResourcePolicy removes the resource policy, if there is one.
func (s *Service) DeleteResourcePolicy(ctx context.Context, in *SecretIDInput) (*Named, error) {
	var c checks
	c.secretID(in.SecretID)
	if err := c.err(); err != nil {
		return nil, err
	}
	return s.change(ctx, *in.SecretID, false, func(found *secret.Secret) (fsm.Command, error) {
		if found.Policy == "" {
			return nil, nil
		}
		return &fsm.SetPolicy{Ref: refTo(found), At: s.millis()}, nil
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
	if err := c.err(); err != nil {
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
