package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"coffer/cluster/pki"
	"coffer/mistake"
)

// maxCall bounds the body of a call between nodes: a batch of the largest commands.
const maxCall = 64 << 20

// LeaderHeader tells an operator's client the peer address of the leader that can do what this node can't.
const LeaderHeader = "X-Coffer-Leader"

// Call is something that a peer port answers to callers whose certificates have one of Roles. Pattern is that of
// http.ServeMux.
type Call struct {
	Pattern string
	Roles   []pki.Role
	Do      func(*Cluster, http.ResponseWriter, *http.Request)
}

// calls is what a peer port answers: to nodes, and to operators, who may do what they ask for on purpose.
func (n *Cluster) calls() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, do http.HandlerFunc, roles ...pki.Role) {
		mux.Handle(pattern, n.caught(pattern, func(w http.ResponseWriter, r *http.Request) {
			caller := callerOf(r)
			if slices.Contains(roles, caller.Role) {
				do(w, r)
				return
			}
			http.Error(w, fmt.Sprintf("the certificate of %s %s does not allow this", caller.Role, caller.ID), http.StatusForbidden)
		}))
	}
	handle("POST /propose", n.handlePropose, pki.Node)
	handle("POST /join", n.handleJoin, pki.Node)
	handle("POST /formats", n.handleFormats, pki.Node)
	handle("POST /progress", n.handleProgress, pki.Node)
	handle("POST /checkpoint", n.handleCheckpoint, pki.Node)
	handle("POST /damaged", n.handleDamaged, pki.Node)
	handle("POST /clock", n.handleClock, pki.Node)
	handle("POST /confirm-clock", n.handleConfirmClock, pki.Operator)
	handle("GET /status", n.handleStatus, pki.Node, pki.Operator)
	handle("POST /remove", n.handleRemove, pki.Operator)
	handle("POST /transfer-leader", n.handleTransfer, pki.Operator)
	handle("POST /raise-format", n.handleRaiseFormat, pki.Operator)
	handle("POST /verify", n.handleVerify, pki.Operator)
	handle("GET /snapshot", n.handleSnapshot, pki.Operator)
	handle("POST /restore", n.handleRestore, pki.Operator)
	for _, c := range n.config.Calls {
		handle(c.Pattern, func(w http.ResponseWriter, r *http.Request) { c.Do(n, w, r) }, c.Roles...)
	}
	return mux
}

// caught answers a call that fails by a mistake in the code with 500.
func (n *Cluster) caught(pattern string, do http.HandlerFunc) http.Handler {
	return mistake.Handler(n.log.With("call", pattern), do, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, mistake.Err.Error(), http.StatusInternalServerError)
	})
}

func callerOf(r *http.Request) pki.Identity {
	if id, ok := r.Context().Value(regionKey{}).(pki.Identity); ok {
		return id
	}
	id, err := pki.IdentityOf(r.TLS.PeerCertificates[0])
	if err != nil {
		return pki.Identity{}
	}
	return id
}

func readCBOR(r *http.Request, into any) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxCall))
	if err != nil {
		return err
	}
	return cbor.Unmarshal(body, into)
}

func writeCBOR(w http.ResponseWriter, v any) {
	b, err := cbor.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(b) // a caller that has gone asks again
}

func newStdLog(l *slog.Logger) *log.Logger { return slog.NewLogLogger(l.Handler(), slog.LevelDebug) }

// AskOthers posts a text to path at every other member, and calls with each answer, or why there is none.
func (n *Cluster) AskOthers(ctx context.Context, path, text string, with func(node, answer string, err error)) error {
	body, err := cbor.Marshal(text)
	if err != nil {
		return err
	}
	for _, s := range n.servers() {
		if id := string(s.ID); id != n.id {
			var answer string
			err := n.call(ctx, id, path, body, &answer)
			with(id, answer, err)
		}
	}
	return nil
}

// Answered makes a Call's handler of a function from the text that AskOthers posts to the text that it answers.
func Answered(do func(context.Context, string) (string, error)) func(*Cluster, http.ResponseWriter, *http.Request) {
	return func(_ *Cluster, w http.ResponseWriter, r *http.Request) {
		var text string
		if err := readCBOR(r, &text); err != nil {
			http.Error(w, "wanted a text", http.StatusBadRequest)
			return
		}
		answer, err := do(r.Context(), text)
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		writeCBOR(w, answer)
	}
}

// call posts a CBOR body to a node's peer port and decodes the answer.
func (n *Cluster) call(ctx context.Context, id, path string, body []byte, into any) error {
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+id+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := n.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(io.LimitReader(resp.Body, maxCall))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return &CallError{Node: id, Status: resp.StatusCode, Message: string(bytes.TrimSpace(got))}
	}
	return cbor.Unmarshal(got, into)
}

// CallError is a node's refusal of a call.
type CallError struct {
	Node    string
	Status  int
	Message string
}

func (e *CallError) Error() string { return "node " + e.Node + ": " + e.Message }

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // a caller that has gone asks again
}
