package service

import (
	"context"
	"slices"
	"strings"

	"coffer/fsm"
	"coffer/kms"
	"coffer/refusal"
	"coffer/serving"
)

// Tag is a tag as clients send it.
type Tag struct {
	TagKey   *string `json:"TagKey"`
	TagValue *string `json:"TagValue"`
}

func (c *checks) tags(tags []Tag) {
	for i := range tags {
		c.Required("Tags", tags[i].TagKey != nil && tags[i].TagValue != nil)
		c.Length("Tags", tags[i].TagKey, 1, 128)
		c.Length("Tags", tags[i].TagValue, 0, 256)
	}
}

func toTags(tags []Tag) ([]kms.Tag, error) {
	if len(tags) > kms.MaxTags {
		return nil, refusal.Errorf(kms.KindLimitExceeded, "A KMS key can have at most %d tags; the request has %d.",
			kms.MaxTags, len(tags))
	}
	var out []kms.Tag
	for _, t := range tags {
		switch {
		case strings.HasPrefix(strings.ToLower(*t.TagKey), "aws:"):
			return nil, refusal.Errorf(kms.KindTag, "Tag keys that start with aws: are reserved.")
		case slices.ContainsFunc(out, func(o kms.Tag) bool { return o.Key == *t.TagKey }):
			return nil, refusal.Errorf(kms.KindTag, "The tag key %s stands in the request twice.", *t.TagKey)
		}
		out = append(out, kms.Tag{Key: *t.TagKey, Value: *t.TagValue})
	}
	return out, nil
}

// TagResourceInput is the input of TagResource.
type TagResourceInput struct {
	KeyID *string `json:"KeyId"`
	Tags  []Tag   `json:"Tags"`
}

// TagResource attaches tags to a key.
func (s *Service) TagResource(ctx context.Context, in *TagResourceInput) (*Empty, error) {
	var c checks
	c.keyID(in.KeyID)
	c.Required("Tags", in.Tags != nil)
	c.tags(in.Tags)
	if err := c.Err(); err != nil {
		return nil, err
	}
	tags, err := toTags(in.Tags)
	if err != nil {
		return nil, err
	}
	_, err = s.change(ctx, *in.KeyID, func(_ *serving.View, _ *kms.Key, ref fsm.KeyRef) (fsm.Command, error) {
		return &fsm.TagKey{Ref: ref, At: s.Millis(), Tags: tags}, nil
	})
	return &Empty{}, err
}

// UntagResourceInput is the input of UntagResource.
type UntagResourceInput struct {
	KeyID   *string  `json:"KeyId"`
	TagKeys []string `json:"TagKeys"`
}

// UntagResource removes tags by key; keys that are not there are no error.
func (s *Service) UntagResource(ctx context.Context, in *UntagResourceInput) (*Empty, error) {
	var c checks
	c.keyID(in.KeyID)
	c.Required("TagKeys", in.TagKeys != nil)
	for i := range in.TagKeys {
		c.Length("TagKeys", &in.TagKeys[i], 1, 128)
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	_, err := s.change(ctx, *in.KeyID, func(_ *serving.View, _ *kms.Key, ref fsm.KeyRef) (fsm.Command, error) {
		return &fsm.UntagKey{Ref: ref, At: s.Millis(), Keys: in.TagKeys}, nil
	})
	return &Empty{}, err
}
