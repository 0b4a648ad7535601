package service

import (
	"context"

	"coffer/fsm"
	"coffer/kms"
	"coffer/refusal"
	"coffer/serving"
)

// defaultPolicyName is the only name that a key policy can have.
const defaultPolicyName = "default"

func checkPolicyName(name *string) error {
	if name != nil && *name != defaultPolicyName {
		return refusal.Errorf(kms.KindNotFound, "No such policy exists")
	}
	return nil
}

// GetKeyPolicyInput is the input of GetKeyPolicy.
type GetKeyPolicyInput struct {
	KeyID      *string `json:"KeyId"`
	PolicyName *string `json:"PolicyName"`
}

// GetKeyPolicyOutput is the answer of GetKeyPolicy.
type GetKeyPolicyOutput struct {
	Policy     string `json:"Policy"`
	PolicyName string `json:"PolicyName"`
}

// GetKeyPolicy answers a key's policy as it was put.
func (s *Service) GetKeyPolicy(ctx context.Context, in *GetKeyPolicyInput) (*GetKeyPolicyOutput, error) {
	var c checks
	c.keyID(in.KeyID)
	c.policyName(in.PolicyName)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if err := checkPolicyName(in.PolicyName); err != nil {
		return nil, err
	}
	out := &GetKeyPolicyOutput{PolicyName: defaultPolicyName}
	err := s.Read(ctx, func(v *serving.View) error {
		key, err := find(v, *in.KeyID, false)
		if err != nil {
			return err
		}
		if out.Policy = key.Policy; out.Policy == "" {
			out.Policy = defaultPolicy(v.Account)
		}
		return nil
	})
	return out, err
}

// PutKeyPolicyInput is the input of PutKeyPolicy.
type PutKeyPolicyInput struct {
	KeyID                          *string `json:"KeyId"`
	PolicyName                     *string `json:"PolicyName"`
	Policy                         *string `json:"Policy"`
	BypassPolicyLockoutSafetyCheck *bool   `json:"BypassPolicyLockoutSafetyCheck"`
}

// PutKeyPolicy stores a key policy, which is parsed strictly.
func (s *Service) PutKeyPolicy(ctx context.Context, in *PutKeyPolicyInput) (*Empty, error) {
	var c checks
	c.keyID(in.KeyID)
	c.policyName(in.PolicyName)
	c.Required("Policy", in.Policy != nil)
	c.policy(in.Policy)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if err := checkPolicyName(in.PolicyName); err != nil {
		return nil, err
	}
	if err := checkPolicy(in.Policy); err != nil {
		return nil, err
	}
	_, err := s.change(ctx, *in.KeyID, func(_ *serving.View, _ *kms.Key, ref fsm.KeyRef) (fsm.Command, error) {
		return &fsm.SetKeyPolicy{Ref: ref, At: s.Millis(), Policy: *in.Policy}, nil
	})
	return &Empty{}, err
}

// ListKeyPoliciesInput is the input of ListKeyPolicies.
type ListKeyPoliciesInput struct {
	KeyID  *string `json:"KeyId"`
	Limit  *int64  `json:"Limit"`
	Marker *string `json:"Marker"`
}

// ListKeyPoliciesOutput is the answer of ListKeyPolicies.
type ListKeyPoliciesOutput struct {
	PolicyNames []string `json:"PolicyNames"`
	Truncated   bool     `json:"Truncated"`
}

// ListKeyPolicies lists the names of a key's policies: there is one.
func (s *Service) ListKeyPolicies(ctx context.Context, in *ListKeyPoliciesInput) (*ListKeyPoliciesOutput, error) {
	var c checks
	c.keyID(in.KeyID)
	c.page(in.Limit, in.Marker)
	if err := c.Err(); err != nil {
		return nil, err
	}
	err := s.Read(ctx, func(v *serving.View) error {
		_, err := find(v, *in.KeyID, false)
		return err
	})
	return &ListKeyPoliciesOutput{PolicyNames: []string{defaultPolicyName}}, err
}
