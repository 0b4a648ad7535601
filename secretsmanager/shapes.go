package secretsmanager

import "coffer/serving"

// Time is a timestamp.
type Time = serving.Time

func day(d int64) Time { return Time(d * millisPerDay) }

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
