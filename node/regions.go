package node

import (
	"context"
	"net/http"

	"github.com/go-json-experiment/json"

	"coffer/cluster"
	"coffer/replication"
	sm "coffer/secretsmanager"
)

// maxQuestion bounds what operators send, in bytes.
const maxQuestion = 4 << 20

// regionCalls are what operators ask about other regions, and about what their replicas displaced.
func (n *Node) regionCalls() []cluster.Call {
	operator := []cluster.Caller{cluster.Operators}
	call := func(pattern string, do http.HandlerFunc) cluster.Call {
		return cluster.Call{Pattern: pattern, From: operator, Do: func(
			_ *cluster.Cluster, w http.ResponseWriter, r *http.Request,
		) {
			do(w, r)
		}}
	}
	account := func() string { return n.secrets.credentials.AccountID }
	return []cluster.Call{
		call("GET /regions",
			answered(func(ctx context.Context, _ *http.Request, _ *struct{}) (*replication.RegionStatus, error) {
				return n.replication.Status(ctx)
			})),
		call("POST /regions/trust", answered(func(ctx context.Context, r *http.Request, _ *struct{}) (string, error) {
			return n.replication.Trust(ctx, r.URL.Query().Get("region"))
		})),
		call("POST /regions/rotate-key", answered(func(ctx context.Context, _ *http.Request, _ *struct{}) (string, error) {
			return n.replication.RotateKey(ctx)
		})),
		call("GET /regions/reach", answered(func(ctx context.Context, r *http.Request, _ *struct{}) (string, error) {
			if err := n.replication.Reach(ctx, r.URL.Query().Get("region")); err != nil {
				return err.Error(), nil
			}
			return "", nil
		})),
		call("POST /regions/successors", answered(func(ctx context.Context, r *http.Request, by *[]string) (struct{}, error) {
			return struct{}{}, n.replication.SetSuccessors(ctx, r.URL.Query().Get("region"), *by)
		})),
		call("POST /regions/list",
			answered(func(ctx context.Context, _ *http.Request, sel *replication.Selection) (*replication.Page, error) {
				return n.replication.List(ctx, sel)
			})),
		call("POST /regions/work",
			answered(func(ctx context.Context, _ *http.Request, work *replication.Work) (*replication.Done, error) {
				return n.replication.Carry(ctx, work)
			})),
		call("GET /displaced",
			answered(func(ctx context.Context, _ *http.Request, _ *struct{}) ([]sm.DisplacedSecret, error) {
				return n.service.Displaced(ctx, account())
			})),
		call("POST /displaced/restore", answered(func(ctx context.Context, r *http.Request, _ *struct{}) (string, error) {
			return n.service.RestoreDisplaced(ctx, account(), r.URL.Query().Get("id"), r.URL.Query().Get("name"))
		})),
	}
}

// answered makes a handler of a function from a question in JSON, if there is a body, to an answer in JSON.
func answered[In, Out any](do func(context.Context, *http.Request, *In) (Out, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		in := new(In)
		if r.ContentLength != 0 {
			if err := json.UnmarshalRead(http.MaxBytesReader(w, r.Body, maxQuestion), in); err != nil {
				http.Error(w, "the question can't be read", http.StatusBadRequest)
				return
			}
		}
		out, err := do(r.Context(), r, in)
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		answerJSON(w, out)
	}
}
