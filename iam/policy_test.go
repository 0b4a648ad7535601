package iam_test

import (
	"testing"

	"coffer/iam"
)

func FuzzParseResourcePolicy(f *testing.F) {
	f.Add(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["a"]},` +
		`"Action":["x"],"Resource":"*"}]}`)
	f.Add(`{"Statement":{"Effect":"Deny","NotPrincipal":"*","NotAction":"x","NotResource":["*"],` +
		`"Condition":{"Bool":{"k":true}}}}`)
	f.Add(`{"Statement":[{}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := iam.ParseResourcePolicy(text); err == nil {
			if len(p.Statements) == 0 {
				t.Error("a policy without a statement was accepted")
			}
			p.Public()
		}
	})
}
