package secretsmanager

import (
	"context"

	"coffer/fsm"
	"coffer/refusal"
	"coffer/secret"
)

// valueInput are the members that carry a value, common to the operations that take one.
type valueInput struct {
	ClientRequestToken *string `json:"ClientRequestToken"`
	SecretBinary       *[]byte `json:"SecretBinary"`
	SecretString       *string `json:"SecretString"`
}

func (in *valueInput) check(c *checks) {
	c.token(in.ClientRequestToken)
	if in.SecretBinary != nil {
		c.Count("SecretBinary", len(*in.SecretBinary), 1, secret.MaxValue)
	}
	if in.SecretString != nil {
		c.Count("SecretString", len(*in.SecretString), 1, secret.MaxValue)
	}
}

// value is the value in the input, nil if there is none. A value needs a token to be its version's id.
func (in *valueInput) value() (*plaintext, error) {
	var p *plaintext
	switch {
	case in.SecretBinary != nil && in.SecretString != nil:
		return nil, refusal.Errorf(secret.KindInvalidParameter,
			"You can't specify both a binary secret value and a string secret value in the same secret.")
	case in.SecretBinary != nil:
		p = &plaintext{*in.SecretBinary, true}
	case in.SecretString != nil:
		p = &plaintext{[]byte(*in.SecretString), false}
	default:
		return nil, nil
	}
	if in.ClientRequestToken == nil {
		return nil, secret.ErrNoToken
	}
	return p, nil
}

// CreateSecretInput is the input of CreateSecret.
type CreateSecretInput struct {
	valueInput
	Name                        *string         `json:"Name"`
	Description                 *string         `json:"Description"`
	KmsKeyID                    *string         `json:"KmsKeyId"`
	Tags                        []Tag           `json:"Tags"`
	AddReplicaRegions           []ReplicaRegion `json:"AddReplicaRegions"`
	ForceOverwriteReplicaSecret *bool           `json:"ForceOverwriteReplicaSecret"`
	Type                        *string         `json:"Type"`
}

// VersionOutput says which version of which secret a write made.
type VersionOutput struct {
	ARN       string  `json:"ARN"`
	Name      string  `json:"Name"`
	VersionID *string `json:"VersionId,omitzero"`

	ReplicationStatus []ReplicationStatus `json:"ReplicationStatus,omitempty"`
}

// CreateSecret makes a secret, with a first version if the input has a value.
func (s *Service) CreateSecret(ctx context.Context, in *CreateSecretInput) (*VersionOutput, error) {
	var c checks
	c.Required("Name", in.Name != nil)
	c.Length("Name", in.Name, 1, secret.MaxName)
	c.Length("Description", in.Description, 0, 2048)
	c.Length("KmsKeyId", in.KmsKeyID, 0, 2048)
	c.Length("Type", in.Type, 0, 256)
	c.tags(in.Tags)
	c.replicaRegions(in.AddReplicaRegions)
	in.check(&c)
	if err := c.Err(); err != nil {
		return nil, err
	}
	value, err := in.value()
	tags, tagErr := toTags(in.Tags)
	switch {
	case err != nil:
		return nil, err
	case tagErr != nil:
		return nil, tagErr
	case !secret.ValidName(*in.Name):
		return nil, secret.ErrInvalidName
	case deref(in.Type) != "":
		return nil, notYet("Type", noExternal)
	}
	links, err := s.newLinks(in.AddReplicaRegions, isTrue(in.ForceOverwriteReplicaSecret))
	if err != nil {
		return nil, err
	}
	suffix, err := secret.Suffix(s.Random)
	if err != nil {
		return nil, err
	}
	out := &VersionOutput{Name: *in.Name}
	if value != nil {
		out.VersionID = in.ClientRequestToken
	}
	_, err = s.write(ctx, func(v *view) (fsm.Command, error) {
		keyID, err := v.namedKey(deref(in.KmsKeyID))
		if err != nil {
			return nil, err
		}
		if old := v.ByName(v.Account, *in.Name); old != nil {
			return nil, v.createdBefore(old, in.ClientRequestToken, value, out)
		}
		ref := fsm.Ref{Account: v.Account, Name: *in.Name, Suffix: suffix}
		out.ARN = secret.ARN(s.Region, ref.Account, ref.Name, ref.Suffix)
		command := &fsm.CreateSecret{
			Ref: ref, At: s.Millis(), Description: deref(in.Description), Tags: tags, KeyID: keyID, Links: links,
		}
		out.ReplicationStatus = started(links)
		if value != nil {
			key, err := v.usableKey(keyID)
			if err != nil {
				return nil, err
			}
			if command.Version, err = v.seal(key, out.ARN, *in.ClientRequestToken, *value); err != nil {
				return nil, err
			}
		}
		return command, nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

const (
	noRotation = "this cluster does not rotate secrets"
	noExternal = "managed external secrets are not offered here"
)

// createdBefore decides a CreateSecret whose name is taken: the same request made again is answered as
// the first time.
func (v *view) createdBefore(old *secret.Secret, token *string, value *plaintext, out *VersionOutput) error {
	if old.Deleted != 0 {
		return secret.ErrNameScheduled
	}
	if value == nil {
		return secret.ErrExists(old.Name)
	}
	same, err := v.sameVersion(old, *token, *value)
	switch {
	case err != nil:
		return err
	case !same:
		return secret.ErrExists(old.Name)
	}
	out.ARN, out.ReplicationStatus = v.arn(old), v.replicationStatus(old)
	return nil
}

// sameVersion reports whether s has a version with the id and the same content. One with other content
// is refused: a version never changes.
func (v *view) sameVersion(s *secret.Secret, id string, value plaintext) (bool, error) {
	version := v.Version(s, id)
	if version == nil {
		return false, nil
	}
	sealed := v.Value(s, version)
	if sealed == nil {
		return false, secret.ErrTokenInUse(id, v.arn(s))
	}
	old, err := v.open(v.arn(s), version, sealed)
	if err != nil {
		return false, err
	}
	if !old.equal(value) {
		return false, secret.ErrTokenInUse(id, v.arn(s))
	}
	return true, nil
}
