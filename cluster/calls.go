package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"

	"github.com/fxamacker/cbor/v2"

	"coffer/cluster/pki"
	"coffer/mistake"
)

// maxCall bounds the body of a call between nodes: a batch of the largest commands.
const maxCall = 64 << 20

// LeaderHeader tells an operator's client the peer address of the leader that can do what this node can't.
const LeaderHeader = "X-Coffer-Leader"

// Call is something that a peer port answers to callers that are one of From. Pattern is that of http.ServeMux.
type Call struct {
	Pattern string
	From    []Caller
	Do      func(*Cluster, http.ResponseWriter, *http.Request)
}

// table is what a peer port answers to this region's nodes and to operators, who may do what they ask for on purpose.
func (n *Cluster) table() []Call {
	call := func(pattern string, do http.HandlerFunc, from ...Caller) Call {
		return Call{pattern, from, func(_ *Cluster, w http.ResponseWriter, r *http.Request) { do(w, r) }}
	}
	return append([]Call{
		call("POST /membership", n.handleMembership, Strangers),
		call("POST /promise", n.handlePromise, Strangers),
		call("POST /join", n.handleJoin, Strangers),
		call("POST /propose", n.handlePropose, Members),
		call("POST /formats", n.handleFormats, Members),
		call("POST /progress", n.handleProgress, Members),
		call("POST /outcome", n.handleOutcome, Members),
		call("POST /checkpoint", n.handleCheckpoint, Members),
		call("POST /damaged", n.handleDamaged, TheLeader),
		call("POST /clock", n.handleClock, Members),
		call("POST /confirm-clock", n.handleConfirmClock, Operators),
		call("GET /status", n.handleStatus, Members, Operators),
		call("POST /remove", n.handleRemove, Operators),
		call("POST /transfer-leader", n.handleTransfer, Operators),
		call("POST /raise-format", n.handleRaiseFormat, Operators),
		call("POST /verify", n.handleVerify, Operators),
		call("GET /snapshot", n.handleSnapshot, Operators),
		call("POST /restore", n.handleRestore, Operators),
	}, n.above.Calls...)
}

func (n *Cluster) calls() http.Handler {
	mux := http.NewServeMux()
	for _, c := range n.table() {
		mux.Handle(c.Pattern, n.caught(c.Pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := n.mayCall(r, c.From); err != nil {
				n.log.Warn("a call was refused", "call", c.Pattern, "from", callerOf(r).ID, "error", err)
				http.Error(w, err.Error(), http.StatusForbidden)
				return
			}
			c.Do(n, w, r)
		}))
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
	ctx, cancel := context.WithTimeout(ctx, n.timing.propose)
	defer cancel()
	return callWith(ctx, n.client, n.ID(), id, path, body, into)
}

// callAt is call of the node at one address.
func (n *Cluster) callAt(ctx context.Context, id, addr, path string, body []byte, into any) error {
	return callAt(ctx, n.config.Credentials, n.peers.dialed, n.ID(), id, addr, path, body, into)
}

func callAt(
	ctx context.Context, as *pki.Credentials, table *openConns, cluster, id, addr, path string, body []byte, into any,
) error {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialTLS(ctx, table, addr, as.Client(as.Identity.Region, id, callProtocol))
		},
	}}
	return callWith(ctx, client, cluster, id, path, body, into)
}

func callWith(
	ctx context.Context, client *http.Client, cluster, id, path string, body []byte, into any,
) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+id+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set(ClusterHeader, cluster)
	resp, err := client.Do(req)
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
