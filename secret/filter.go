package secret

import (
	"strings"
	"unicode"
)

// Filter is one condition of ListSecrets and BatchGetSecretValue.
type Filter struct {
	Key    string
	Values []string
}

// The filter keys.
const (
	FilterName          = "name"
	FilterDescription   = "description"
	FilterTagKey        = "tag-key"
	FilterTagValue      = "tag-value"
	FilterPrimaryRegion = "primary-region"
	FilterOwningService = "owning-service"
	FilterAll           = "all"
)

// Match reports whether every filter matches s: any of a filter's values may match, and a value that
// starts with "!" matches what the rest of it does not. region is where s is.
func Match(filters []Filter, s *Secret, region string) bool {
	for i := range filters {
		if !filters[i].match(s, region) {
			return false
		}
	}
	return true
}

func (f *Filter) match(s *Secret, region string) bool {
	for _, v := range f.Values {
		want, negated := strings.CutPrefix(v, "!")
		if f.matchOne(want, s, region) != negated {
			return true
		}
	}
	return false
}

func (f *Filter) matchOne(want string, s *Secret, region string) bool {
	switch f.Key {
	case FilterName:
		return strings.HasPrefix(s.Name, want)
	case FilterDescription:
		return wordsMatch(want, s.Description)
	case FilterTagKey:
		return anyTag(s, func(t Tag) bool { return strings.HasPrefix(t.Key, want) })
	case FilterTagValue:
		return anyTag(s, func(t Tag) bool { return strings.HasPrefix(t.Value, want) })
	case FilterAll:
		text := []string{s.Name, s.Description}
		for _, t := range s.Tags {
			text = append(text, t.Key, t.Value)
		}
		return wordsMatch(want, text...)
	case FilterPrimaryRegion:
		return want == s.PrimaryRegion(region)
	}
	return want == "" // owning-service: exact, and no secret has one
}

func anyTag(s *Secret, ok func(Tag) bool) bool {
	for _, t := range s.Tags {
		if ok(t) {
			return true
		}
	}
	return false
}

// wordsMatch reports whether each word of want begins some word of texts, without regard to case.
func wordsMatch(want string, texts ...string) bool {
	var have []string
	for _, text := range texts {
		have = append(have, words(text)...)
		have = append(have, strings.Fields(strings.ToLower(text))...)
	}
next:
	for _, w := range strings.Fields(strings.ToLower(want)) {
		for _, h := range have {
			if strings.HasPrefix(h, w) {
				continue next
			}
		}
		return false
	}
	return true
}

func words(s string) []string {
	return strings.FieldsFunc(strings.ToLower(s), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
}
