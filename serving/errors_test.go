package serving_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"coffer/refusal"
	"coffer/serving"
)

// kinds reads the kinds of refusal that a room declares.
func kinds(t *testing.T, file string) map[string]refusal.Kind {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]refusal.Kind{}
	ast.Inspect(f, func(n ast.Node) bool {
		c, ok := n.(*ast.ValueSpec)
		if !ok || len(c.Values) != 1 || !strings.HasPrefix(c.Names[0].Name, "Kind") {
			return true
		}
		literal, ok := c.Values[0].(*ast.BasicLit)
		if !ok {
			return true
		}
		value, err := strconv.Unquote(literal.Value)
		if err != nil {
			t.Fatal(err)
		}
		found[c.Names[0].Name] = refusal.Kind(value)
		return true
	})
	return found
}

// TestEveryKindHasACode shows that no kind of refusal reaches a client as an error of the server, but those that stay
// between nodes and regions; and that no two kinds are one, though rooms name them for themselves.
func TestEveryKindHasACode(t *testing.T) {
	between := []string{"KindConflict", "KindEnded", "KindTaken", "KindIncomplete", "KindStale"}
	seen := map[refusal.Kind]string{}
	for _, room := range []string{"refusal/refusal.go", "secret/errors.go", "kms/errors.go", "iam/errors.go"} {
		of := kinds(t, "../"+room)
		if len(of) < 2 {
			t.Errorf("%s: %d kinds", room, len(of))
		}
		for name, kind := range of {
			if seen[kind] != "" {
				t.Errorf("%s of %s is the kind of %s", name, room, seen[kind])
			}
			seen[kind] = name + " of " + room
			api := serving.ToAPIError(refusal.New(kind, "message"))
			internal := api.Status == http.StatusInternalServerError
			if internal != slices.Contains(between, name) {
				t.Errorf("%s of %s is told as %v", name, room, api)
			}
			if !internal && api.Message != "message" {
				t.Errorf("%s of %s says %q", name, room, api.Message)
			}
		}
	}
}
