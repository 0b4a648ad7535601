package httpapi

import (
	"context"
	"errors"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	sm "coffer/secretsmanager"
)

// operation is one entry of the table: it decodes the input, calls, and encodes the output.
type operation struct {
	target string
	do     func(ctx context.Context, body, into []byte) ([]byte, error)
}

// op makes an entry of a method.
func op[In, Out any](target string, do func(context.Context, *In) (*Out, error)) operation {
	return operation{target, func(ctx context.Context, body, into []byte) ([]byte, error) {
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

// operations is the table of the Secrets Manager API.
func operations(s *sm.Service) []operation {
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
		op("secretsmanager.TagResource", s.TagResource),
		op("secretsmanager.UntagResource", s.UntagResource),
		op("secretsmanager.GetRandomPassword", s.GetRandomPassword),
		op("secretsmanager.PutResourcePolicy", s.PutResourcePolicy),
		op("secretsmanager.GetResourcePolicy", s.GetResourcePolicy),
		op("secretsmanager.DeleteResourcePolicy", s.DeleteResourcePolicy),
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
		return sm.ErrSerialization("The request is nested too deeply.")
	}
	err := json.Unmarshal(body, in)
	if err == nil {
		return nil
	}
	var semantic *json.SemanticError
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.As(err, &syntactic):
		return sm.ErrSerialization("The request body is not valid JSON in UTF-8, each member once.")
	case errors.As(err, &semantic):
		return sm.ErrSerialization("A member of the request has a value of the wrong type.")
	}
	return sm.ErrSerialization("The request body could not be read.")
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
