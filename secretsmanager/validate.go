package secretsmanager

import (
	"regexp"
	"slices"
	"strings"

	"coffer/refusal"
	"coffer/secret"
	"coffer/serving"
)

// checks are the constraints of the service model, with those that several operations share.
type checks struct{ serving.Checks }

func (c *checks) secretID(id *string) {
	c.Required("SecretId", id != nil)
	c.Length("SecretId", id, 1, 2048)
}

func (c *checks) token(token *string) { c.Length("ClientRequestToken", token, 32, 64) }

func (c *checks) labels(labels []string) {
	if labels == nil {
		return
	}
	c.Count("VersionStages", len(labels), 1, secret.MaxLabelsPerVersion)
	for i := range labels {
		c.Length("VersionStages", &labels[i], 1, 256)
	}
}

func (c *checks) tags(tags []Tag) {
	for i := range tags {
		c.Length("Tags", tags[i].Key, 1, 128)
		c.Length("Tags", tags[i].Value, 0, 256)
	}
}

// Tag is a tag as clients send it.
type Tag struct {
	Key   *string `json:"Key"`
	Value *string `json:"Value"`
}

// toTags refuses what the model does not: missing and reserved keys, keys that stand there twice.
func toTags(tags []Tag) ([]secret.Tag, error) {
	if len(tags) > secret.MaxTags {
		return nil, refusal.Errorf(secret.KindInvalidParameter, "A secret can have at most %d tags; the request has %d.",
			secret.MaxTags, len(tags))
	}
	out := make([]secret.Tag, 0, len(tags))
	for _, t := range tags {
		switch {
		case t.Key == nil:
			return nil, refusal.Errorf(secret.KindInvalidParameter, "A tag needs a Key.")
		case strings.HasPrefix(strings.ToLower(*t.Key), "aws:"):
			return nil, refusal.Errorf(secret.KindInvalidParameter, "Tag keys that start with aws: are reserved.")
		case slices.ContainsFunc(out, func(o secret.Tag) bool { return o.Key == *t.Key }):
			return nil, refusal.Errorf(secret.KindInvalidParameter, "The tag key %s stands in the request twice.", *t.Key)
		}
		value := ""
		if t.Value != nil {
			value = *t.Value
		}
		out = append(out, secret.Tag{Key: *t.Key, Value: value})
	}
	return out, nil
}

var filterPattern = regexp.MustCompile(`^!?[a-zA-Z0-9 :_@/+=.\-!]*$`)

func (c *checks) filters(filters []Filter) {
	c.Count("Filters", len(filters), 0, 10)
	for i := range filters {
		f := &filters[i]
		c.OneOf("Filters", f.Key, secret.FilterDescription, secret.FilterName, secret.FilterTagKey, secret.FilterTagValue,
			secret.FilterPrimaryRegion, secret.FilterOwningService, secret.FilterAll)
		if f.Values != nil {
			c.Count("Filters", len(f.Values), 1, 10)
		}
		for j := range f.Values {
			c.Length("Filters", &f.Values[j], 0, 512)
			if !filterPattern.MatchString(f.Values[j]) {
				c.Fail("Filters", f.Values[j],
					"Member must satisfy regular expression pattern: ^\\!?[a-zA-Z0-9 :_@\\/\\+\\=\\.\\-\\!]*$")
			}
		}
	}
}

// Filter is a filter as clients send it.
type Filter struct {
	Key    *string  `json:"Key"`
	Values []string `json:"Values"`
}

func toFilters(filters []Filter) ([]secret.Filter, error) {
	out := make([]secret.Filter, len(filters))
	for i, f := range filters {
		if f.Key == nil || len(f.Values) == 0 {
			return nil, refusal.Errorf(secret.KindInvalidParameter, "A filter needs a Key and at least one of Values.")
		}
		out[i] = secret.Filter{Key: *f.Key, Values: f.Values}
	}
	return out, nil
}

// notYet refuses a parameter of AWS's API that has no effect here, so that nobody relies on it.
func notYet(parameter, why string) error {
	return refusal.Errorf(secret.KindInvalidParameter, "The parameter %s can't be used: %s.", parameter, why)
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func isTrue(b *bool) bool { return b != nil && *b }
