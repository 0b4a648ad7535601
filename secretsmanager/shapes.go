package secretsmanager

import (
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Time is milliseconds since 1970; clients see seconds with a fraction.
type Time int64

// MarshalJSONTo writes seconds, as the JSON 1.1 protocol has timestamps.
func (t Time) MarshalJSONTo(enc *jsontext.Encoder) error {
	return enc.WriteValue(t.append(make([]byte, 0, 32)))
}

func (t Time) append(b []byte) []byte {
	b = strconv.AppendInt(b, int64(t)/1000, 10)
	if ms := int64(t) % 1000; ms != 0 {
		b = append(b, '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
	}
	return b
}

func day(d int64) Time { return Time(d * millisPerDay) }

// ReplicaRegion is a member of AddReplicaRegions.
type ReplicaRegion struct {
	Region   *string `json:"Region"`
	KmsKeyID *string `json:"KmsKeyId"`
}

// Named is the answer of operations that say which secret they changed.
type Named struct {
	ARN  string `json:"ARN"`
	Name string `json:"Name"`
}

// Empty is the answer of operations that have none.
type Empty struct{}

// SecretIDInput is the input of operations that take a SecretId only.
type SecretIDInput struct {
	SecretID *string `json:"SecretId"`
}
