package httpapi

import (
	"context"
	"errors"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"coffer/iam"
	kmsservice "coffer/kms/service"
	sm "coffer/secretsmanager"
	"coffer/serving"
)

// operation is one entry of the table: it decodes the input, calls, and encodes the output.
type operation struct {
	target   string
	verifier *iam.Verifier // of the service's signatures
	do       func(ctx context.Context, body, into []byte) ([]byte, error)
}

// op makes an entry of a method.
func op[In, Out any](target string, do func(context.Context, *In) (*Out, error)) operation {
	return operation{target: target, do: func(ctx context.Context, body, into []byte) ([]byte, error) {
		in := new(In)
		if err := decode(body, in); err != nil {
			return nil, err
		}
		out, err := do(ctx, in)
		if err != nil {
			return nil, err
		}
		if long, ok := any(out).(interface{ AppendJSON([]byte) []byte }); ok {
			return long.AppendJSON(into), nil
		}
		w := sliceWriter(into)
		if err := json.MarshalWrite(&w, out); err != nil {
			return nil, err
		}
		return w, nil
	}}
}

type sliceWriter []byte

func (w *sliceWriter) Write(b []byte) (int, error) {
	*w = append(*w, b...)
	return len(b), nil
}

// secretsManager is the table of the Secrets Manager API.
func secretsManager(s *sm.Service) []operation {
	return []operation{
		op("secretsmanager.CreateSecret", s.CreateSecret),
		op("secretsmanager.GetSecretValue", s.GetSecretValue),
		op("secretsmanager.BatchGetSecretValue", s.BatchGetSecretValue),
		op("secretsmanager.PutSecretValue", s.PutSecretValue),
		op("secretsmanager.UpdateSecret", s.UpdateSecret),
		op("secretsmanager.DescribeSecret", s.DescribeSecret),
		op("secretsmanager.ListSecrets", s.ListSecrets),
		op("secretsmanager.ListSecretVersionIds", s.ListSecretVersionIds),
		op("secretsmanager.UpdateSecretVersionStage", s.UpdateSecretVersionStage),
		op("secretsmanager.DeleteSecret", s.DeleteSecret),
		op("secretsmanager.RestoreSecret", s.RestoreSecret),
		op("secretsmanager.ReplicateSecretToRegions", s.ReplicateSecretToRegions),
		op("secretsmanager.RemoveRegionsFromReplication", s.RemoveRegionsFromReplication),
		op("secretsmanager.StopReplicationToReplica", s.StopReplicationToReplica),
		op("secretsmanager.TagResource", s.TagResource),
		op("secretsmanager.UntagResource", s.UntagResource),
		op("secretsmanager.GetRandomPassword", s.GetRandomPassword),
		op("secretsmanager.PutResourcePolicy", s.PutResourcePolicy),
		op("secretsmanager.GetResourcePolicy", s.GetResourcePolicy),
		op("secretsmanager.DeleteResourcePolicy", s.DeleteResourcePolicy),
	}
}

// keyManagement is the table of the KMS API.
func keyManagement(s *kmsservice.Service) []operation {
	return []operation{
		op("TrentService.CreateKey", s.CreateKey),
		op("TrentService.DescribeKey", s.DescribeKey),
		op("TrentService.ListKeys", s.ListKeys),
		op("TrentService.UpdateKeyDescription", s.UpdateKeyDescription),
		op("TrentService.EnableKey", s.EnableKey),
		op("TrentService.DisableKey", s.DisableKey),
		op("TrentService.ScheduleKeyDeletion", s.ScheduleKeyDeletion),
		op("TrentService.CancelKeyDeletion", s.CancelKeyDeletion),
		op("TrentService.CreateAlias", s.CreateAlias),
		op("TrentService.UpdateAlias", s.UpdateAlias),
		op("TrentService.DeleteAlias", s.DeleteAlias),
		op("TrentService.ListAliases", s.ListAliases),
		op("TrentService.TagResource", s.TagResource),
		op("TrentService.UntagResource", s.UntagResource),
		op("TrentService.ListResourceTags", s.ListResourceTags),
		op("TrentService.GetKeyPolicy", s.GetKeyPolicy),
		op("TrentService.PutKeyPolicy", s.PutKeyPolicy),
		op("TrentService.ListKeyPolicies", s.ListKeyPolicies),
		op("TrentService.Encrypt", s.Encrypt),
		op("TrentService.Decrypt", s.Decrypt),
		op("TrentService.ReEncrypt", s.ReEncrypt),
		op("TrentService.GenerateDataKey", s.GenerateDataKey),
		op("TrentService.GenerateDataKeyWithoutPlaintext", s.GenerateDataKeyWithoutPlaintext),
		op("TrentService.GenerateRandom", s.GenerateRandom),
		op("TrentService.EnableKeyRotation", s.EnableKeyRotation),
		op("TrentService.DisableKeyRotation", s.DisableKeyRotation),
		op("TrentService.GetKeyRotationStatus", s.GetKeyRotationStatus),
		op("TrentService.RotateKeyOnDemand", s.RotateKeyOnDemand),
		op("TrentService.ListKeyRotations", s.ListKeyRotations),
		op("TrentService.GetParametersForImport", s.GetParametersForImport),
		op("TrentService.ImportKeyMaterial", s.ImportKeyMaterial),
		op("TrentService.DeleteImportedKeyMaterial", s.DeleteImportedKeyMaterial),
		op("TrentService.GenerateMac", s.GenerateMac),
		op("TrentService.VerifyMac", s.VerifyMac),
	}
}

// maxDepth is deeper than any input of the API.
const maxDepth = 32

// decode reads an operation's input strictly: members must have their own case and type and stand there
// once, text must be valid UTF-8 without lone surrogates, nothing may follow. Members that the API does
// not know are ignored, as AWS does. The error says where, never what.
func decode(body []byte, in any) error {
	if len(body) == 0 {
		body = []byte("{}")
	}
	if depth(body) > maxDepth {
		return serving.ErrSerialization("The request is nested too deeply.")
	}
	err := json.Unmarshal(body, in)
	if err == nil {
		return nil
	}
	var semantic *json.SemanticError
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.As(err, &syntactic):
		return serving.ErrSerialization("The request body is not valid JSON in UTF-8, each member once.")
	case errors.As(err, &semantic):
		return serving.ErrSerialization("A member of the request has a value of the wrong type.")
	}
	return serving.ErrSerialization("The request body could not be read.")
}

// depth is how deeply brackets nest, strings left out.
func depth(body []byte) int {
	deepest, now, quoted := 0, 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			now++
			deepest = max(deepest, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return deepest
}
