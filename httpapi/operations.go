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
	writes   bool          // it comes to a command, which other nodes must take
	do       func(ctx context.Context, body, into []byte) ([]byte, error)
}

// write makes an entry of a method that comes to a command.
func write[In, Out any](target string, do func(context.Context, *In) (*Out, error)) operation {
	o := read(target, do)
	o.writes = true
	return o
}

// read makes an entry of a method that changes nothing.
func read[In, Out any](target string, do func(context.Context, *In) (*Out, error)) operation {
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
		write("secretsmanager.CreateSecret", s.CreateSecret),
		read("secretsmanager.GetSecretValue", s.GetSecretValue),
		read("secretsmanager.BatchGetSecretValue", s.BatchGetSecretValue),
		write("secretsmanager.PutSecretValue", s.PutSecretValue),
		write("secretsmanager.UpdateSecret", s.UpdateSecret),
		read("secretsmanager.DescribeSecret", s.DescribeSecret),
		read("secretsmanager.ListSecrets", s.ListSecrets),
		read("secretsmanager.ListSecretVersionIds", s.ListSecretVersionIds),
		write("secretsmanager.UpdateSecretVersionStage", s.UpdateSecretVersionStage),
		write("secretsmanager.DeleteSecret", s.DeleteSecret),
		write("secretsmanager.RestoreSecret", s.RestoreSecret),
		write("secretsmanager.ReplicateSecretToRegions", s.ReplicateSecretToRegions),
		write("secretsmanager.RemoveRegionsFromReplication", s.RemoveRegionsFromReplication),
		write("secretsmanager.StopReplicationToReplica", s.StopReplicationToReplica),
		write("secretsmanager.TagResource", s.TagResource),
		write("secretsmanager.UntagResource", s.UntagResource),
		read("secretsmanager.GetRandomPassword", s.GetRandomPassword),
		write("secretsmanager.PutResourcePolicy", s.PutResourcePolicy),
		read("secretsmanager.GetResourcePolicy", s.GetResourcePolicy),
		write("secretsmanager.DeleteResourcePolicy", s.DeleteResourcePolicy),
	}
}

// keyManagement is the table of the KMS API.
func keyManagement(s *kmsservice.Service) []operation {
	return []operation{
		write("TrentService.CreateKey", s.CreateKey),
		read("TrentService.DescribeKey", s.DescribeKey),
		read("TrentService.ListKeys", s.ListKeys),
		write("TrentService.UpdateKeyDescription", s.UpdateKeyDescription),
		write("TrentService.EnableKey", s.EnableKey),
		write("TrentService.DisableKey", s.DisableKey),
		write("TrentService.ScheduleKeyDeletion", s.ScheduleKeyDeletion),
		write("TrentService.CancelKeyDeletion", s.CancelKeyDeletion),
		write("TrentService.CreateAlias", s.CreateAlias),
		write("TrentService.UpdateAlias", s.UpdateAlias),
		write("TrentService.DeleteAlias", s.DeleteAlias),
		read("TrentService.ListAliases", s.ListAliases),
		write("TrentService.TagResource", s.TagResource),
		write("TrentService.UntagResource", s.UntagResource),
		read("TrentService.ListResourceTags", s.ListResourceTags),
		read("TrentService.GetKeyPolicy", s.GetKeyPolicy),
		write("TrentService.PutKeyPolicy", s.PutKeyPolicy),
		read("TrentService.ListKeyPolicies", s.ListKeyPolicies),
		read("TrentService.Encrypt", s.Encrypt),
		read("TrentService.Decrypt", s.Decrypt),
		read("TrentService.ReEncrypt", s.ReEncrypt),
		read("TrentService.GenerateDataKey", s.GenerateDataKey),
		read("TrentService.GenerateDataKeyWithoutPlaintext", s.GenerateDataKeyWithoutPlaintext),
		read("TrentService.GenerateRandom", s.GenerateRandom),
		write("TrentService.EnableKeyRotation", s.EnableKeyRotation),
		write("TrentService.DisableKeyRotation", s.DisableKeyRotation),
		read("TrentService.GetKeyRotationStatus", s.GetKeyRotationStatus),
		write("TrentService.RotateKeyOnDemand", s.RotateKeyOnDemand),
		read("TrentService.ListKeyRotations", s.ListKeyRotations),
		read("TrentService.GetParametersForImport", s.GetParametersForImport),
		write("TrentService.ImportKeyMaterial", s.ImportKeyMaterial),
		write("TrentService.DeleteImportedKeyMaterial", s.DeleteImportedKeyMaterial),
		read("TrentService.GenerateMac", s.GenerateMac),
		read("TrentService.VerifyMac", s.VerifyMac),
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
