package serving

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"coffer/refusal"
)

// Checks gathers broken constraints of the service model. Member names are given as the model's,
// and are told with a lower-case initial, as AWS does.
type Checks struct{ problems []string }

// Fail notes that a member breaks a constraint. The value is told, unless it is empty.
func (c *Checks) Fail(member, value, constraint string) {
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

// Required checks that a member is there.
func (c *Checks) Required(member string, present bool) {
	if !present {
		c.Fail(member, "", "Member must not be null")
	}
}

// Length checks the characters of an optional string.
func (c *Checks) Length(member string, value *string, low, high int) {
	if value == nil {
		return
	}
	switch n := utf8.RuneCountInString(*value); {
	case n < low:
		c.Fail(member, *value, fmt.Sprintf("Member must have length greater than or equal to %d", low))
	case n > high:
		c.Fail(member, *value, fmt.Sprintf("Member must have length less than or equal to %d", high))
	}
}

// Count checks the number of a list's items, or of the bytes of a value that is never told.
func (c *Checks) Count(member string, n, low, high int) {
	switch {
	case n < low:
		c.Fail(member, "", fmt.Sprintf("Member must have length greater than or equal to %d", low))
	case n > high:
		c.Fail(member, "", fmt.Sprintf("Member must have length less than or equal to %d", high))
	}
}

// Between checks an optional number.
func (c *Checks) Between(member string, value *int64, low, high int64) {
	if value == nil {
		return
	}
	switch {
	case *value < low:
		c.Fail(member, fmt.Sprint(*value), fmt.Sprintf("Member must have value greater than or equal to %d", low))
	case *value > high:
		c.Fail(member, fmt.Sprint(*value), fmt.Sprintf("Member must have value less than or equal to %d", high))
	}
}

// OneOf checks an optional string against an enumeration.
func (c *Checks) OneOf(member string, value *string, allowed ...string) {
	if value != nil && !slices.Contains(allowed, *value) {
		c.Fail(member, *value, "Member must satisfy enum value set: ["+strings.Join(allowed, ", ")+"]")
	}
}

// Err is a validation error that tells all problems; nil without any.
func (c *Checks) Err() error {
	switch len(c.problems) {
	case 0:
		return nil
	case 1:
		return refusal.Errorf(refusal.KindValidation, "1 validation error detected: %s", c.problems[0])
	}
	return refusal.Errorf(refusal.KindValidation, "%d validation errors detected: %s",
		len(c.problems), strings.Join(c.problems, "; "))
}
