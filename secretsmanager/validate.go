package secretsmanager

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"coffer/secret"
)

// checks gathers broken constraints of the service model. Member names are given as the model's,
// and are told with a lower-case initial, as AWS does.
type checks struct{ problems []string }

func (c *checks) fail(member, value, constraint string) {
	at := strings.ToLower(member[:1]) + member[1:]
	if value != "" {
		if len(value) > 256 {
			value = strings.ToValidUTF8(value[:256], "") + "…"
		}
		at = "'" + value + "' at '" + at + "'"
	} else {
		at = "at '" + at + "'"
	}
	c.problems = append(c.problems, "Value "+at+" failed to satisfy constraint: "+constraint)
}

func (c *checks) required(member string, present bool) {
	if !present {
		c.fail(member, "", "Member must not be null")
	}
}

// length checks the characters of an optional string.
func (c *checks) length(member string, value *string, low, high int) {
	if value == nil {
		return
	}
	switch n := utf8.RuneCountInString(*value); {
	case n < low:
		c.fail(member, *value, fmt.Sprintf("Member must have length greater than or equal to %d", low))
	case n > high:
		c.fail(member, *value, fmt.Sprintf("Member must have length less than or equal to %d", high))
	}
}

// size checks the bytes of a secret value, which is never told.
func (c *checks) size(member string, present bool, n int) {
	switch {
	case present && n < 1:
		c.fail(member, "", "Member must have length greater than or equal to 1")
	case present && n > secret.MaxValue:
		c.fail(member, "", fmt.Sprintf("Member must have length less than or equal to %d", secret.MaxValue))
	}
}

func (c *checks) count(member string, n, low, high int) {
	switch {
	case n < low:
		c.fail(member, "", fmt.Sprintf("Member must have length greater than or equal to %d", low))
	case n > high:
		c.fail(member, "", fmt.Sprintf("Member must have length less than or equal to %d", high))
	}
}

func (c *checks) between(member string, value *int64, low, high int64) {
	if value == nil {
		return
	}
	switch {
	case *value < low:
		c.fail(member, fmt.Sprint(*value), fmt.Sprintf("Member must have value greater than or equal to %d", low))
	case *value > high:
		c.fail(member, fmt.Sprint(*value), fmt.Sprintf("Member must have value less than or equal to %d", high))
	}
}

func (c *checks) oneOf(member string, value *string, allowed ...string) {
	if value != nil && !slices.Contains(allowed, *value) {
		c.fail(member, *value, "Member must satisfy enum value set: ["+strings.Join(allowed, ", ")+"]")
	}
}

func (c *checks) err() error {
	switch len(c.problems) {
	case 0:
		return nil
	case 1:
		return secret.Errorf(secret.KindValidation, "1 validation error detected: %s", c.problems[0])
	}
	return secret.Errorf(secret.KindValidation, "%d validation errors detected: %s", len(c.problems), strings.Join(c.problems, "; "))
}

func (c *checks) secretID(id *string) {
	c.required("SecretId", id != nil)
	c.length("SecretId", id, 1, 2048)
}

func (c *checks) token(token *string) { c.length("ClientRequestToken", token, 32, 64) }

func (c *checks) labels(labels []string) {
	if labels == nil {
		return
	}
	c.count("VersionStages", len(labels), 1, secret.MaxLabelsPerVersion)
	for i := range labels {
		c.length("VersionStages", &labels[i], 1, 256)
	}
}

func (c *checks) tags(tags []Tag) {
	for i := range tags {
		c.length("Tags", tags[i].Key, 1, 128)
		c.length("Tags", tags[i].Value, 0, 256)
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
		return nil, secret.Errorf(secret.KindInvalidParameter, "A secret can have at most %d tags; the request has %d.", secret.MaxTags, len(tags))
	}
	out := make([]secret.Tag, 0, len(tags))
	for _, t := range tags {
		switch {
		case t.Key == nil:
			return nil, secret.Errorf(secret.KindInvalidParameter, "A tag needs a Key.")
		case strings.HasPrefix(strings.ToLower(*t.Key), "aws:"):
			return nil, secret.Errorf(secret.KindInvalidParameter, "Tag keys that start with aws: are reserved.")
		case slices.ContainsFunc(out, func(o secret.Tag) bool { return o.Key == *t.Key }):
			return nil, secret.Errorf(secret.KindInvalidParameter, "The tag key %s stands in the request twice.", *t.Key)
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
	c.count("Filters", len(filters), 0, 10)
	for i := range filters {
		f := &filters[i]
		c.oneOf("Filters", f.Key, secret.FilterDescription, secret.FilterName, secret.FilterTagKey, secret.FilterTagValue, secret.FilterPrimaryRegion, secret.FilterOwningService, secret.FilterAll)
		if f.Values != nil {
			c.count("Filters", len(f.Values), 1, 10)
		}
		for j := range f.Values {
			c.length("Filters", &f.Values[j], 0, 512)
			if !filterPattern.MatchString(f.Values[j]) {
				c.fail("Filters", f.Values[j], "Member must satisfy regular expression pattern: ^\\!?[a-zA-Z0-9 :_@\\/\\+\\=\\.\\-\\!]*$")
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
			return nil, secret.Errorf(secret.KindInvalidParameter, "A filter needs a Key and at least one of Values.")
		}
		out[i] = secret.Filter{Key: *f.Key, Values: f.Values}
	}
	return out, nil
}

// notYet refuses a parameter of AWS's API that has no effect here, so that nobody relies on it.
func notYet(parameter, why string) error {
	return secret.Errorf(secret.KindInvalidParameter, "The parameter %s can't be used: %s.", parameter, why)
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func isTrue(b *bool) bool { return b != nil && *b }
