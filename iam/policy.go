package iam

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Policy is a policy document (IAM user guide, "IAM JSON policy element reference").
type Policy struct {
	Version    string     `json:"Version,omitempty"`
	ID         string     `json:"Id,omitempty"`
	Statements statements `json:"Statement"`
}

// Statement is one permission or prohibition.
type Statement struct {
	Sid          string                       `json:"Sid,omitempty"`
	Effect       string                       `json:"Effect"`
	Principal    *Principals                  `json:"Principal,omitempty"`
	NotPrincipal *Principals                  `json:"NotPrincipal,omitempty"`
	Action       oneOrMany                    `json:"Action,omitempty"`
	NotAction    oneOrMany                    `json:"NotAction,omitempty"`
	Resource     oneOrMany                    `json:"Resource,omitempty"`
	NotResource  oneOrMany                    `json:"NotResource,omitempty"`
	Condition    map[string]map[string]anyOne `json:"Condition,omitempty"`
}

// Principals is a Principal element: everyone, or lists by type (AWS, Service, Federated, CanonicalUser).
type Principals struct {
	Everyone bool
	ByType   map[string]oneOrMany
}

// ParseResourcePolicy parses a policy document that is attached to a resource, strictly: unknown or
// repeated elements, missing ones, and values of the wrong kind are refused.
func ParseResourcePolicy(text string) (*Policy, error) {
	var p Policy
	if err := json.Unmarshal([]byte(text), &p, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("not a policy document: %w", syntaxOnly(err))
	}
	if p.Version != "" && p.Version != "2012-10-17" && p.Version != "2008-10-17" {
		return nil, errors.New(`the Version must be "2012-10-17" or "2008-10-17"`)
	}
	if len(p.Statements) == 0 {
		return nil, errors.New("the Statement must hold at least one statement")
	}
	for i := range p.Statements {
		if err := p.Statements[i].check(); err != nil {
			return nil, fmt.Errorf("statement %d: %w", i+1, err)
		}
	}
	return &p, nil
}

// syntaxOnly keeps what the caller sent out of the message, save where it is.
func syntaxOnly(err error) error {
	var semantic *json.SemanticError
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.As(err, &semantic):
		return fmt.Errorf("unknown element or wrong kind of value at %q", clip(string(semantic.JSONPointer)))
	case errors.As(err, &syntactic):
		return fmt.Errorf("a syntax error at byte %d", syntactic.ByteOffset)
	}
	return errors.New("wrong structure")
}

func (s *Statement) check() error {
	switch {
	case s.Effect != "Allow" && s.Effect != "Deny":
		return errors.New(`the Effect must be "Allow" or "Deny"`)
	case (s.Principal == nil) == (s.NotPrincipal == nil):
		return errors.New("wanted one of Principal and NotPrincipal")
	case (s.Action == nil) == (s.NotAction == nil):
		return errors.New("wanted one of Action and NotAction")
	case (s.Resource == nil) == (s.NotResource == nil):
		return errors.New("wanted one of Resource and NotResource")
	}
	return nil
}

// Public reports whether the policy allows something to everyone without a condition.
func (p *Policy) Public() bool {
	for _, s := range p.Statements {
		if s.Effect == "Allow" && len(s.Condition) == 0 && (s.NotPrincipal != nil || s.Principal.everyone()) {
			return true
		}
	}
	return false
}

func (p *Principals) everyone() bool {
	return p.Everyone || slices.Contains(p.ByType["AWS"], "*")
}

// UnmarshalJSON takes "*" or an object of known principal types.
func (p *Principals) UnmarshalJSON(b []byte) error {
	var all string
	if json.Unmarshal(b, &all) == nil {
		if all != "*" {
			return errors.New(`a Principal that is a string must be "*"`)
		}
		p.Everyone = true
		return nil
	}
	if err := json.Unmarshal(b, &p.ByType); err != nil || len(p.ByType) == 0 {
		return errors.New("wrong structure of a Principal")
	}
	for kind := range p.ByType {
		if !slices.Contains([]string{"AWS", "Service", "Federated", "CanonicalUser"}, kind) {
			return errors.New("unknown type of Principal")
		}
	}
	return nil
}

// oneOrMany is a string or a list of at least one.
type oneOrMany []string

func (l *oneOrMany) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*l = oneOrMany{one}
		return nil
	}
	var many []string
	if err := json.Unmarshal(b, &many); err != nil || len(many) == 0 {
		return errors.New("wanted a string or a list of strings")
	}
	*l = many
	return nil
}

// anyOne is a condition's value or values: strings, numbers or booleans.
type anyOne []any

func (l *anyOne) UnmarshalJSON(b []byte) error {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	values, many := v.([]any)
	if !many {
		values = []any{v}
	}
	for _, v := range values {
		switch v.(type) {
		case string, bool, float64:
		default:
			return errors.New("a condition's values are strings, numbers or booleans")
		}
	}
	*l = values
	return nil
}

type statements []Statement

func (l *statements) UnmarshalJSON(b []byte) error {
	strict := json.RejectUnknownMembers(true)
	if len(b) > 0 && b[0] == '{' {
		*l = make(statements, 1)
		return json.Unmarshal(b, &(*l)[0], strict)
	}
	return json.Unmarshal(b, (*[]Statement)(l), strict)
}
