package secret

import (
	"cmp"
	"slices"
	"strings"

	"coffer/refusal"
)

// The staging labels that Secrets Manager moves by itself.
const (
	Current  = "AWSCURRENT"
	Previous = "AWSPREVIOUS"
	Pending  = "AWSPENDING"
)

// Limits of the service.
const (
	MaxValue            = 65536 // bytes of a value; of UTF-8 for a string
	MaxTags             = 50
	MaxLabelsPerVersion = 20
	// of all versions, besides AWSCURRENT and AWSPREVIOUS (AWS Secrets Manager quotas)
	MaxLabels       = 20
	MaxUnlabelled   = 100                 // deprecated versions kept at least
	KeepVersionsFor = 24 * 60 * 60 * 1000 // ms; no version younger than this is removed
)

// Secret is a secret's metadata. Times are milliseconds since 1970, days are days since 1970;
// zero means "never". The field numbers are the stored form and never change their meaning.
type Secret struct {
	Account     string `cbor:"-"` // in the row's key, as is the name
	Name        string `cbor:"-"`
	Suffix      string `cbor:"3,keyasint"`
	Description string `cbor:"4,keyasint,omitempty"`
	Tags        []Tag  `cbor:"6,keyasint,omitempty"`
	Tagged      bool   `cbor:"7,keyasint,omitempty"` // had a tag at some time
	Policy      string `cbor:"8,keyasint,omitempty"`
	Created     int64  `cbor:"9,keyasint"`
	Changed     int64  `cbor:"10,keyasint"`
	AccessedDay int64  `cbor:"11,keyasint,omitempty"`
	Deleted     int64  `cbor:"12,keyasint,omitempty"` // end of the recovery window; 0 while live
	Labels      Labels `cbor:"13,keyasint,omitempty"` // staging label -> version id
	Versions    int    `cbor:"14,keyasint,omitempty"` // how many exist
	CleanUpAt   int64  `cbor:"15,keyasint,omitempty"` // no version can be removed before
	Revision    uint64 `cbor:"16,keyasint"`           // counts changes
	KeyID       string `cbor:"18,keyasint,omitempty"` // of its KMS key; empty under the default key

	Replicas  []string   `cbor:"19,keyasint,omitempty"` // regions that it has links to, sorted
	Primary   string     `cbor:"20,keyasint,omitempty"` // region of its primary, if it is a replica
	Origin    *Origin    `cbor:"21,keyasint,omitempty"` // if it was promoted when that region was lost
	Displaced *Displaced `cbor:"22,keyasint,omitempty"`
}

// Version is the metadata of one immutable value.
type Version struct {
	ID          string `cbor:"1,keyasint"`
	Created     int64  `cbor:"2,keyasint"`
	AccessedDay int64  `cbor:"3,keyasint,omitempty"`
	KeyID       string `cbor:"4,keyasint"`           // the KMS key that wraps its data key
	Place       uint64 `cbor:"5,keyasint"`           // where the store keeps its value
	Revision    uint64 `cbor:"6,keyasint,omitempty"` // of the secret, that added it
}

// Value is a version's sealed content.
type Value struct {
	WrappedKey []byte `cbor:"1,keyasint"` // the data key under the KMS key
	Sealed     []byte `cbor:"2,keyasint"` // nonce and ciphertext under the data key
	Binary     bool   `cbor:"3,keyasint,omitempty"`
}

// Tag is a key with a value.
type Tag struct {
	Key   string `cbor:"1,keyasint" json:"Key"`
	Value string `cbor:"2,keyasint" json:"Value"`
}

// ARN is the secret's ARN in region.
func (s *Secret) ARN(region string) string {
	if s.Displaced != nil { // its values are bound to the ARN that it had
		return ARN(region, s.Account, s.Displaced.Name, s.Suffix)
	}
	return ARN(region, s.Account, s.Name, s.Suffix)
}

// HasValue reports whether some version is current.
func (s *Secret) HasValue() bool { return s.Labels.On(Current) != "" }

// LabelsOf lists the staging labels of version id, sorted.
func (s *Secret) LabelsOf(id string) []string {
	var labels []string
	for label, on := range s.Labels.All() {
		if on == id {
			labels = append(labels, label)
		}
	}
	return labels
}

// ByVersion calls visit with each labelled version and its labels, both sorted.
func (s *Secret) ByVersion(visit func(id string, labels []string)) {
	pairs := make([][2]string, 0, 8)
	for label, id := range s.Labels.All() {
		pairs = append(pairs, [2]string{id, label})
	}
	slices.SortFunc(pairs, func(a, b [2]string) int {
		return cmp.Or(strings.Compare(a[0], b[0]), strings.Compare(a[1], b[1]))
	})
	labels := make([]string, 0, 8)
	for i, p := range pairs {
		labels = append(labels, p[1])
		if i == len(pairs)-1 || pairs[i+1][0] != p[0] {
			visit(p[0], labels)
			labels = labels[:0]
		}
	}
}

// Tag adds tags, replacing the values of keys that are there. It fails with [KindInvalidParameter]
// when more than 50 would be attached, and then changes nothing.
func (s *Secret) Tag(tags []Tag) error {
	merged := append([]Tag(nil), s.Tags...)
next:
	for _, t := range tags {
		for i := range merged {
			if merged[i].Key == t.Key {
				merged[i].Value = t.Value
				continue next
			}
		}
		merged = append(merged, t)
	}
	if len(merged) > MaxTags {
		return refusal.Errorf(KindInvalidParameter, "A secret can have at most %d tags; this request would make it %d.",
			MaxTags, len(merged))
	}
	s.Tags, s.Tagged = merged, s.Tagged || len(merged) > 0
	return nil
}

// Untag removes the tags with the keys; keys that are not there are ignored.
func (s *Secret) Untag(keys []string) {
	var kept []Tag
next:
	for _, t := range s.Tags {
		for _, k := range keys {
			if t.Key == k {
				continue next
			}
		}
		kept = append(kept, t)
	}
	s.Tags = kept
}
