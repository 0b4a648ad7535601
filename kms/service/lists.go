package service

import (
	"context"
	"errors"
	"strconv"

	"coffer/kms"
	"coffer/refusal"
	"coffer/serving"
)

// page gathers one page of a list: items come in order, and each has a position to go on behind.
type page[T any] struct {
	items []T
	max   int
	last  string
	more  bool
}

func newPage[T any](limit *int64, standard int) *page[T] {
	if limit != nil {
		standard = int(*limit)
	}
	return &page[T]{items: []T{}, max: standard}
}

// add takes an item, and answers false when the page was full before it.
func (p *page[T]) add(position string, item T) bool {
	if len(p.items) == p.max {
		p.more = true
		return false
	}
	p.items, p.last = append(p.items, item), position
	return true
}

// marker seals where the list goes on; empty at its end.
func (p *page[T]) marker(v *serving.View, query ...string) (string, error) {
	if !p.more {
		return "", nil
	}
	return v.SealPage(query, []byte(p.last))
}

// after answers the position in a marker, empty without one.
func after(v *serving.View, marker *string, query ...string) (string, error) {
	position, err := v.OpenPage(query, marker)
	if errors.Is(err, serving.ErrToken) {
		return "", refusal.Errorf(kms.KindInvalidMarker, "The marker is not valid: start the list again without it.")
	}
	return string(position), err
}

// ListKeysInput is the input of ListKeys.
type ListKeysInput struct {
	Limit  *int64  `json:"Limit"`
	Marker *string `json:"Marker"`
}

// ListKeysOutput is the answer of ListKeys.
type ListKeysOutput struct {
	Keys       []KeyEntry `json:"Keys"`
	NextMarker string     `json:"NextMarker,omitempty"`
	Truncated  bool       `json:"Truncated"`
}

// KeyEntry is a key in a list.
type KeyEntry struct {
	KeyID  string `json:"KeyId"`
	KeyArn string `json:"KeyArn"`
}

// ListKeys lists all keys, by id.
func (s *Service) ListKeys(ctx context.Context, in *ListKeysInput) (*ListKeysOutput, error) {
	var c checks
	c.page(in.Limit, in.Marker)
	if err := c.Err(); err != nil {
		return nil, err
	}
	var out *ListKeysOutput
	err := s.Read(ctx, func(v *serving.View) error {
		from, err := after(v, in.Marker, "ListKeys")
		if err != nil {
			return err
		}
		keys := newPage[KeyEntry](in.Limit, 100)
		v.Keys(v.Account, from, func(k *kms.Key) bool { return keys.add(k.ID, KeyEntry{k.ID, k.ARN(v.Region)}) })
		next, err := keys.marker(v, "ListKeys")
		out = &ListKeysOutput{keys.items, next, keys.more}
		return err
	})
	return out, err
}

// ListResourceTagsInput is the input of ListResourceTags.
type ListResourceTagsInput struct {
	KeyID  *string `json:"KeyId"`
	Limit  *int64  `json:"Limit"`
	Marker *string `json:"Marker"`
}

// ListResourceTagsOutput is the answer of ListResourceTags.
type ListResourceTagsOutput struct {
	Tags       []TagEntry `json:"Tags"`
	NextMarker string     `json:"NextMarker,omitempty"`
	Truncated  bool       `json:"Truncated"`
}

// TagEntry is a tag in a list.
type TagEntry struct {
	TagKey   string `json:"TagKey"`
	TagValue string `json:"TagValue"`
}

// ListResourceTags lists a key's tags.
func (s *Service) ListResourceTags(ctx context.Context, in *ListResourceTagsInput) (*ListResourceTagsOutput, error) {
	var c checks
	c.keyID(in.KeyID)
	c.page(in.Limit, in.Marker)
	if err := c.Err(); err != nil {
		return nil, err
	}
	var out *ListResourceTagsOutput
	err := s.Read(ctx, func(v *serving.View) error {
		key, err := find(v, *in.KeyID, false)
		if err != nil {
			return err
		}
		tags := newPage[TagEntry](in.Limit, 50)
		next, err := walkIndexed(v, in.Marker, tags, key.Tags, func(t kms.Tag) TagEntry {
			return TagEntry{t.Key, t.Value}
		}, "ListResourceTags", key.ID)
		out = &ListResourceTagsOutput{tags.items, next, tags.more}
		return err
	})
	return out, err
}

// walkIndexed pages through a list that is part of a key; positions are indexes.
func walkIndexed[From, To any](v *serving.View, marker *string, to *page[To], all []From, entry func(From) To,
	query ...string) (string, error) {
	from, err := after(v, marker, query...)
	if err != nil {
		return "", err
	}
	start := 0
	if from != "" {
		if start, err = strconv.Atoi(from); err != nil {
			return "", err
		}
	}
	for i := min(start, len(all)); i < len(all) && to.add(strconv.Itoa(i+1), entry(all[i])); i++ {
	}
	return to.marker(v, query...)
}
