//go:build nextformat

package node

import (
	"context"
	"net/http"

	"coffer/cluster"
	"coffer/fsm"
)

// Builds for tests, which have the format after the newest one, let an operator propose what that format brings.
func init() {
	moreCalls = func(n *Node) []cluster.Call {
		propose := func(pattern string, command func(*http.Request) fsm.Command) cluster.Call {
			return cluster.Call{Pattern: pattern, From: []cluster.Caller{cluster.Operators}, Do: func(
				_ *cluster.Cluster, w http.ResponseWriter, r *http.Request,
			) {
				answered(func(ctx context.Context, r *http.Request, _ *struct{}) (string, error) {
					out, err := n.base.Propose(ctx, command(r))
					if err == nil {
						err = out.Err()
					}
					return "done", err
				})(w, r)
			}}
		}
		return []cluster.Call{
			propose("POST /next/note", func(r *http.Request) fsm.Command {
				return &fsm.NoteNext{Text: r.URL.Query().Get("text")}
			}),
			propose("POST /next/tag", func(r *http.Request) fsm.Command {
				q := r.URL.Query()
				return &fsm.TagSecretNext{Mark: q.Get("mark"), TagSecret: fsm.TagSecret{
					At: n.base.Millis(), Ref: fsm.Ref{Account: q.Get("account"), Name: q.Get("name"), Suffix: q.Get("suffix")},
				}}
			}),
		}
	}
}
