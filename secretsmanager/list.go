package secretsmanager

import (
	"context"
	"strings"

	"coffer/fsm"
	"coffer/secret"
)

// ListSecretsInput is the input of ListSecrets.
type ListSecretsInput struct {
	IncludePlannedDeletion *bool    `json:"IncludePlannedDeletion"`
	MaxResults             *int64   `json:"MaxResults"`
	NextToken              *string  `json:"NextToken"`
	Filters                []Filter `json:"Filters"`
	SortOrder              *string  `json:"SortOrder"`
	SortBy                 *string  `json:"SortBy"`
}

// ListSecretsOutput is the answer of ListSecrets.
type ListSecretsOutput struct {
	SecretList []SecretListEntry `json:"SecretList"`
	NextToken  string            `json:"NextToken,omitempty"`
}

// SecretListEntry is one secret in a list.
type SecretListEntry struct {
	metadata
	SecretVersionsToStages stages `json:"SecretVersionsToStages,omitzero"`
}

var orders = map[string]fsm.Order{
	"": fsm.ByCreated, "created-date": fsm.ByCreated, "last-accessed-date": fsm.ByAccessed,
	"last-changed-date": fsm.ByChanged, "name": fsm.ByName,
}

// ListSecrets lists the secrets that match all filters, a page at a time. A page may hold fewer than
// asked for, even none, and still be followed by another.
func (s *Service) ListSecrets(ctx context.Context, in *ListSecretsInput) (*ListSecretsOutput, error) {
	var c checks
	c.Between("MaxResults", in.MaxResults, 1, maxPage)
	c.Length("NextToken", in.NextToken, 1, 4096)
	c.filters(in.Filters)
	c.OneOf("SortOrder", in.SortOrder, "asc", "desc")
	c.OneOf("SortBy", in.SortBy, "created-date", "last-accessed-date", "last-changed-date", "name")
	if err := c.Err(); err != nil {
		return nil, err
	}
	filters, err := toFilters(in.Filters)
	if err != nil {
		return nil, err
	}
	q := listQuery{
		Operation: "ListSecrets", Filters: filters, Scheduled: isTrue(in.IncludePlannedDeletion),
		Order: orders[deref(in.SortBy)], Descending: deref(in.SortOrder) == "desc",
	}
	out := &ListSecretsOutput{SecretList: []SecretListEntry{}}
	err = s.read(ctx, func(v *view) (err error) {
		out.SecretList = out.SecretList[:0]
		out.NextToken, err = v.page(q, in.NextToken, limit(in.MaxResults, maxPage), func(found *secret.Secret) {
			out.SecretList = append(out.SecretList, SecretListEntry{v.metadata(found), stages{found}})
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// listQuery is what a page token is bound to.
type listQuery struct {
	Operation  string
	Filters    []secret.Filter
	Scheduled  bool
	Order      fsm.Order
	Descending bool
}

func (q *listQuery) parts() []string {
	parts := []string{q.Operation, string(rune('0' + q.Order))}
	if q.Scheduled {
		parts = append(parts, "scheduled")
	}
	if q.Descending {
		parts = append(parts, "descending")
	}
	for _, f := range q.Filters {
		parts = append(append(parts, "\x00"+f.Key), f.Values...)
	}
	return parts
}

// namePrefix is what every name in the list must start with, as far as one filter alone says so.
func (q *listQuery) namePrefix() string {
	for _, f := range q.Filters {
		if f.Key == secret.FilterName && len(f.Values) == 1 && !strings.HasPrefix(f.Values[0], "!") {
			return f.Values[0]
		}
	}
	return ""
}

// page visits one page of a list and answers the token of the next, empty after the last.
func (v *view) page(q listQuery, token *string, max int, visit func(*secret.Secret)) (string, error) {
	query := q.parts()
	cursor, err := v.openPage(query, token)
	if err != nil {
		return "", err
	}
	n := 0
	next := v.Secrets(fsm.List{
		Account: v.Account, Order: q.Order, Descending: q.Descending, NamePrefix: q.namePrefix(), Cursor: cursor,
	}, func(s *secret.Secret) bool {
		if (s.Deleted != 0 && !q.Scheduled) || !secret.Match(q.Filters, s, v.Region) {
			return true
		}
		visit(s)
		n++
		return n < max
	})
	if next == nil {
		return "", nil
	}
	return v.SealPage(query, next)
}
