package secretsmanager

import (
	"context"

	"github.com/go-json-experiment/json/jsontext"

	"coffer/kms"
	"coffer/secret"
)

// metadata is what DescribeSecret and ListSecrets tell of a secret.
type metadata struct {
	ARN              string        `json:"ARN"`
	CreatedDate      Time          `json:"CreatedDate"`
	DeletedDate      Time          `json:"DeletedDate,omitzero"`
	Description      string        `json:"Description,omitempty"`
	KmsKeyID         string        `json:"KmsKeyId,omitempty"`
	LastAccessedDate Time          `json:"LastAccessedDate,omitzero"`
	LastChangedDate  Time          `json:"LastChangedDate"`
	Name             string        `json:"Name"`
	PrimaryRegion    string        `json:"PrimaryRegion,omitempty"`
	Tags             *[]secret.Tag `json:"Tags,omitzero"`
}

func (v *view) metadata(s *secret.Secret) metadata {
	m := metadata{
		ARN: v.arn(s), Name: s.Name, Description: s.Description,
		CreatedDate: Time(s.Created), LastChangedDate: Time(s.Changed),
		LastAccessedDate: day(s.AccessedDay), DeletedDate: Time(s.Deleted), PrimaryRegion: s.PrimaryRegion(v.Region),
	}
	if s.KeyID != "" {
		m.KmsKeyID = kms.KeyARN(v.Region, s.Account, s.KeyID)
	}
	if s.Tagged {
		tags := s.Tags
		if tags == nil {
			tags = []secret.Tag{}
		}
		m.Tags = &tags
	}
	return m
}

// DescribeSecretOutput is the answer of DescribeSecret.
type DescribeSecretOutput struct {
	metadata
	ReplicationStatus  []ReplicationStatus `json:"ReplicationStatus,omitempty"`
	VersionIdsToStages stages              `json:"VersionIdsToStages,omitzero"`
}

// stages are a secret's labelled versions with their labels, written without making a map of them first.
type stages struct{ s *secret.Secret }

// IsZero leaves the member out where no version has a label.
func (v stages) IsZero() bool { return len(v.s.Labels) == 0 }

// MarshalJSONTo writes an object: version id -> labels.
func (v stages) MarshalJSONTo(enc *jsontext.Encoder) error {
	return enc.WriteValue(v.append(nil))
}

func (v stages) append(b []byte) []byte {
	b = append(b, '{')
	empty := len(b)
	v.s.ByVersion(func(id string, labels []string) {
		if len(b) > empty {
			b = append(b, ',')
		}
		b = append(appendText(b, id), ":["...)
		for i, label := range labels {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendText(b, label)
		}
		b = append(b, ']')
	})
	return append(b, '}')
}

// DescribeSecret tells everything of a secret but its values.
func (s *Service) DescribeSecret(ctx context.Context, in *SecretIDInput) (*DescribeSecretOutput, error) {
	var c checks
	c.secretID(in.SecretID)
	if err := c.Err(); err != nil {
		return nil, err
	}
	var out *DescribeSecretOutput
	err := s.read(ctx, func(v *view) error {
		found, err := v.find(*in.SecretID, true)
		if err != nil {
			return err
		}
		out = &DescribeSecretOutput{v.metadata(found), v.replicationStatus(found), stages{found}}
		return nil
	})
	return out, err
}

// ListSecretVersionIDsInput is the input of ListSecretVersionIds.
type ListSecretVersionIDsInput struct {
	SecretID          *string `json:"SecretId"`
	MaxResults        *int64  `json:"MaxResults"`
	NextToken         *string `json:"NextToken"`
	IncludeDeprecated *bool   `json:"IncludeDeprecated"`
}

// ListSecretVersionIDsOutput is the answer of ListSecretVersionIds.
type ListSecretVersionIDsOutput struct {
	Versions  []VersionEntry `json:"Versions"`
	NextToken string         `json:"NextToken,omitempty"`
	ARN       string         `json:"ARN"`
	Name      string         `json:"Name"`
}

// VersionEntry is one version in a list.
type VersionEntry struct {
	VersionID        string   `json:"VersionId"`
	VersionStages    []string `json:"VersionStages,omitempty"`
	LastAccessedDate Time     `json:"LastAccessedDate,omitzero"`
	CreatedDate      Time     `json:"CreatedDate"`
	KmsKeyIDs        []string `json:"KmsKeyIds"`
}

const maxPage = 100

// ListSecretVersionIds lists versions by id: the labelled ones, and the deprecated ones if asked.
func (s *Service) ListSecretVersionIds(ctx context.Context,
	in *ListSecretVersionIDsInput) (*ListSecretVersionIDsOutput, error) {
	var c checks
	c.secretID(in.SecretID)
	c.Between("MaxResults", in.MaxResults, 1, maxPage)
	c.Length("NextToken", in.NextToken, 1, 4096)
	if err := c.Err(); err != nil {
		return nil, err
	}
	var out *ListSecretVersionIDsOutput
	err := s.read(ctx, func(v *view) error {
		found, err := v.find(*in.SecretID, true)
		if err != nil {
			return err
		}
		query := []string{"ListSecretVersionIds", v.arn(found)}
		if isTrue(in.IncludeDeprecated) {
			query = append(query, "deprecated")
		}
		after, err := v.openPage(query, in.NextToken)
		if err != nil {
			return err
		}
		out = &ListSecretVersionIDsOutput{Versions: []VersionEntry{}, ARN: v.arn(found), Name: found.Name}
		max := limit(in.MaxResults, maxPage)
		last, more := "", false
		v.Versions(found, string(after), func(version *secret.Version) bool {
			labels := found.LabelsOf(version.ID)
			if labels == nil && !isTrue(in.IncludeDeprecated) {
				return true
			}
			if len(out.Versions) == max {
				more = true
				return false
			}
			last = version.ID
			out.Versions = append(out.Versions, VersionEntry{
				VersionID: version.ID, VersionStages: labels, CreatedDate: Time(version.Created),
				LastAccessedDate: day(version.AccessedDay), KmsKeyIDs: v.keyNames(version.KeyID),
			})
			return true
		})
		if more {
			out.NextToken, err = v.SealPage(query, []byte(last))
		}
		return err
	})
	return out, err
}

func (v *view) keyNames(id string) []string {
	if id == v.State.DefaultKeyID {
		return []string{"DefaultEncryptionKey"}
	}
	return []string{kms.KeyARN(v.Region, v.Account, id)}
}
