package secretsmanager

import (
	"context"

	"coffer/fsm"
	"coffer/refusal"
	"coffer/secret"
	"coffer/serving"
)

// GetSecretValueInput is the input of GetSecretValue.
type GetSecretValueInput struct {
	SecretID     *string `json:"SecretId"`
	VersionID    *string `json:"VersionId"`
	VersionStage *string `json:"VersionStage"`
}

// ValueOutput is a version with its value.
type ValueOutput struct {
	ARN           string   `json:"ARN"`
	CreatedDate   Time     `json:"CreatedDate"`
	Name          string   `json:"Name"`
	SecretBinary  []byte   `json:"SecretBinary,omitempty"`
	SecretString  string   `json:"SecretString,omitempty"`
	VersionID     string   `json:"VersionId"`
	VersionStages []string `json:"VersionStages,omitempty"`
}

// GetSecretValue decrypts a version: the current one, or the one with the id, the label or both.
func (s *Service) GetSecretValue(ctx context.Context, in *GetSecretValueInput) (*ValueOutput, error) {
	var c checks
	c.secretID(in.SecretID)
	c.Length("VersionId", in.VersionID, 32, 64)
	c.Length("VersionStage", in.VersionStage, 1, 256)
	if err := c.Err(); err != nil {
		return nil, err
	}
	var out *ValueOutput
	err := s.read(ctx, func(v *view) (err error) {
		out, err = v.value(*in.SecretID, in.VersionID, in.VersionStage)
		return err
	})
	return out, err
}

func (v *view) value(id string, versionID, label *string) (*ValueOutput, error) {
	found, err := v.find(id, false)
	if err != nil {
		return nil, err
	}
	return v.valueOf(found, versionID, label)
}

func (v *view) valueOf(s *secret.Secret, versionID, label *string) (*ValueOutput, error) {
	wanted := secret.Current
	if label != nil {
		wanted = *label
	}
	version := s.Labels.On(wanted)
	switch {
	case versionID == nil && version == "":
		return nil, secret.ErrNoLabel(wanted)
	case versionID != nil:
		if v.Version(s, *versionID) == nil {
			return nil, secret.ErrNoVersion(*versionID)
		}
		if label != nil && version != *versionID {
			return nil, secret.ErrLabelNotOnVersion
		}
		version = *versionID
	}
	row := v.Version(s, version)
	if row == nil {
		return nil, secret.ErrNoLabel(wanted)
	}
	sealed := v.Value(s, row)
	if sealed == nil {
		if versionID != nil {
			return nil, secret.ErrNoVersion(version)
		}
		return nil, secret.ErrNoLabel(wanted)
	}
	arn := v.arn(s)
	value, err := v.open(arn, row, sealed)
	if err != nil {
		return nil, err
	}
	v.s.access.note(s, row, v.s.Millis()/millisPerDay)
	out := &ValueOutput{
		ARN: arn, CreatedDate: Time(row.Created), Name: s.Name, VersionID: version, VersionStages: s.LabelsOf(version),
	}
	if value.binary {
		out.SecretBinary = value.content
	} else {
		out.SecretString = string(value.content)
	}
	return out, nil
}

// BatchGetSecretValueInput is the input of BatchGetSecretValue.
type BatchGetSecretValueInput struct {
	SecretIDList []string `json:"SecretIdList"`
	Filters      []Filter `json:"Filters"`
	MaxResults   *int64   `json:"MaxResults"`
	NextToken    *string  `json:"NextToken"`
}

// BatchGetSecretValueOutput is the answer of BatchGetSecretValue.
type BatchGetSecretValueOutput struct {
	SecretValues []*ValueOutput `json:"SecretValues"`
	NextToken    string         `json:"NextToken,omitempty"`
	Errors       []BatchError   `json:"Errors"`
}

// BatchError says why one secret of a batch could not be read.
type BatchError struct {
	SecretID  string `json:"SecretId"`
	ErrorCode string `json:"ErrorCode"`
	Message   string `json:"Message"`
}

const maxBatch = 20

// BatchGetSecretValue decrypts the current versions of up to 20 secrets, named or filtered. What one
// secret refuses stands in Errors; the others are answered.
func (s *Service) BatchGetSecretValue(ctx context.Context,
	in *BatchGetSecretValueInput) (*BatchGetSecretValueOutput, error) {
	var c checks
	if in.SecretIDList != nil {
		c.Count("SecretIdList", len(in.SecretIDList), 1, maxBatch)
	}
	for i := range in.SecretIDList {
		c.Length("SecretIdList", &in.SecretIDList[i], 1, 2048)
	}
	c.filters(in.Filters)
	c.Between("MaxResults", in.MaxResults, 1, maxBatch)
	c.Length("NextToken", in.NextToken, 1, 4096)
	if err := c.Err(); err != nil {
		return nil, err
	}
	filters, err := toFilters(in.Filters)
	switch {
	case err != nil:
		return nil, err
	case len(in.SecretIDList) > 0 && len(filters) > 0:
		return nil, refusal.Errorf(secret.KindInvalidParameter,
			"Either 'SecretIdList' or 'Filters' must be provided, but not both.")
	case len(in.SecretIDList) == 0 && len(filters) == 0:
		return nil, refusal.Errorf(secret.KindInvalidParameter,
			"Either 'SecretIdList' or 'Filters' must be provided, but not both.")
	case len(filters) == 0 && (in.MaxResults != nil || in.NextToken != nil):
		return nil, refusal.Errorf(secret.KindInvalidParameter,
			"'Filters' must be specified when 'MaxResults' or 'NextToken' is.")
	}
	out := &BatchGetSecretValueOutput{SecretValues: []*ValueOutput{}, Errors: []BatchError{}}
	add := func(id string, value *ValueOutput, err error) {
		if err == nil {
			out.SecretValues = append(out.SecretValues, value)
			return
		}
		api := serving.ToAPIError(err)
		out.Errors = append(out.Errors, BatchError{id, api.Code, api.Message})
	}
	err = s.read(ctx, func(v *view) error {
		out.SecretValues, out.Errors = out.SecretValues[:0], out.Errors[:0]
		for _, id := range in.SecretIDList {
			value, err := v.value(id, nil, nil)
			add(id, value, err)
		}
		if len(filters) == 0 {
			return nil
		}
		q := listQuery{Operation: "BatchGetSecretValue", Filters: filters, Order: fsm.ByCreated}
		page, err := v.page(q, in.NextToken, limit(in.MaxResults, maxBatch), func(found *secret.Secret) {
			value, err := v.valueOf(found, nil, nil)
			add(v.arn(found), value, err)
		})
		out.NextToken = page
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func limit(asked *int64, high int) int {
	if asked == nil {
		return high
	}
	return int(*asked)
}

// PutSecretValueInput is the input of PutSecretValue.
type PutSecretValueInput struct {
	valueInput
	SecretID      *string  `json:"SecretId"`
	VersionStages []string `json:"VersionStages"`
	RotationToken *string  `json:"RotationToken"`
}

// PutSecretValueOutput is the answer of PutSecretValue.
type PutSecretValueOutput struct {
	ARN           string   `json:"ARN"`
	Name          string   `json:"Name"`
	VersionID     string   `json:"VersionId"`
	VersionStages []string `json:"VersionStages,omitempty"`
}

// PutSecretValue adds a version, which becomes the current one unless other labels are asked for.
func (s *Service) PutSecretValue(ctx context.Context, in *PutSecretValueInput) (*PutSecretValueOutput, error) {
	var c checks
	c.secretID(in.SecretID)
	c.labels(in.VersionStages)
	in.check(&c)
	if err := c.Err(); err != nil {
		return nil, err
	}
	value, err := in.value()
	switch {
	case err != nil:
		return nil, err
	case in.RotationToken != nil:
		return nil, notYet("RotationToken", noRotation)
	case value == nil:
		return nil, refusal.Errorf(secret.KindInvalidRequest, "You must provide either SecretString or SecretBinary.")
	}
	labels := in.VersionStages
	if labels == nil {
		labels = []string{secret.Current}
	}
	out := &PutSecretValueOutput{VersionID: *in.ClientRequestToken}
	done, err := s.write(ctx, func(v *view) (fsm.Command, error) {
		found, err := v.findPrimary(*in.SecretID, false)
		if err != nil {
			return nil, err
		}
		out.ARN, out.Name = v.arn(found), found.Name
		if same, err := v.sameVersion(found, out.VersionID, *value); same || err != nil {
			out.VersionStages = found.LabelsOf(out.VersionID)
			return nil, err
		}
		key, err := v.usableKey(found.KeyID)
		if err != nil {
			return nil, err
		}
		version, err := v.seal(key, out.ARN, out.VersionID, *value)
		if err != nil {
			return nil, err
		}
		return &fsm.PutVersion{Ref: refTo(found), At: s.Millis(), Version: *version, Labels: labels}, nil
	})
	if err != nil {
		return nil, err
	}
	if done.Labels != nil {
		out.VersionStages = done.Labels
	}
	return out, nil
}
