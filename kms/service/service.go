// Package service is the KMS API (TrentService): its operations, one method each. What keys are and may do is
// package kms's to say; the state machine decides by it. Here requests are checked, keys are found, material is
// used, and commands are proposed.
package service

import (
	"context"
	"regexp"
	"strings"

	"coffer/fsm"
	"coffer/kms"
	"coffer/refusal"
	"coffer/serving"
)

// Service carries out operations. Each takes the caller from its context (serving.WithCall).
type Service struct{ *serving.Base }

// New makes a Service.
func New(b *serving.Base) *Service { return &Service{b} }

const millisPerDay = 24 * 60 * 60 * 1000

// checks are the constraints of the service model, with those that several operations share.
type checks struct{ serving.Checks }

func (c *checks) keyID(id *string) {
	c.Required("KeyId", id != nil)
	c.Length("KeyId", id, 1, 2048)
}

func (c *checks) page(limit *int64, marker *string) {
	c.Between("Limit", limit, 1, 1000)
	c.Length("Marker", marker, 1, 1024)
}

// blob checks the bytes of content that is never told.
func (c *checks) blob(member string, content *[]byte, high int) {
	c.Required(member, content != nil)
	if content != nil {
		c.Count(member, len(*content), 1, high)
	}
}

func (c *checks) policy(policy *string) {
	c.Length("Policy", policy, 1, 131072)
}

var policyName = regexp.MustCompile(`^\w+$`)

func (c *checks) policyName(name *string) {
	c.Length("PolicyName", name, 1, 128)
	if name != nil && !policyName.MatchString(*name) {
		c.Fail("PolicyName", *name, "Member must satisfy regular expression pattern: [\\w]+")
	}
}

// find is the key that id means. Operations on aliases' targets and on keys take no alias where the API
// reference says so.
func find(v *serving.View, id string, aliases bool) (*kms.Key, error) {
	if !aliases && (strings.HasPrefix(id, kms.AliasPrefix) || strings.Contains(id, ":"+kms.AliasPrefix)) {
		return nil, refusal.Errorf(kms.KindNotFound, "Invalid keyId '%s'", id)
	}
	return v.FindKey(id)
}

// change proposes one command about one key, and answers the key as it was found.
func (s *Service) change(ctx context.Context, id string,
	command func(*serving.View, *kms.Key, fsm.KeyRef) (fsm.Command, error)) (*kms.Key, error) {
	var found *kms.Key
	_, err := s.Write(ctx, func(v *serving.View) (fsm.Command, error) {
		key, err := find(v, id, false)
		if err != nil {
			return nil, err
		}
		found = key
		return command(v, key, refTo(key))
	})
	return found, err
}

func refTo(k *kms.Key) fsm.KeyRef { return fsm.KeyRef{Account: k.Account, ID: k.ID} }

// Empty is the answer of operations that have none.
type Empty struct{}

// KeyInput is the input of operations that take a KeyId only.
type KeyInput struct {
	KeyID *string `json:"KeyId"`
}

func (in *KeyInput) check() error {
	var c checks
	c.keyID(in.KeyID)
	return c.Err()
}

// KeyOutput names the key that an operation changed.
type KeyOutput struct {
	KeyID string `json:"KeyId"`
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
