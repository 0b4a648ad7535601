package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"coffer/cluster"
	"coffer/fsm"
	"coffer/kms/rootkey"
)

// roots are the root keys that this node was given: by its configuration, by shares, or by a rotation. The node is
// sealed while the one that the region's keys are wrapped under is not among them.
type roots struct {
	n *Node

	following sync.Mutex // held while follow looks

	mu         sync.Mutex // guards below
	configured rootkey.Provider
	why        error // why configured is not there
	shares     map[string][]rootkey.Share
	next       time.Time // when follow may try again
}

// openConfigured opens the root key of the configuration. One that can't be reached at the moment, or that is given in
// shares, leaves the node sealed.
func (r *roots) openConfigured(ctx context.Context) error {
	root, err := rootkey.Open(ctx, r.n.config.RootKey)
	var transient *rootkey.TransientError
	if err != nil && !errors.Is(err, rootkey.ErrShares) && !errors.As(err, &transient) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.configured, r.why = root, err
	if root != nil {
		r.n.keyring.AddRoot(root)
	}
	return nil
}

func (r *roots) state() (root rootkey.Provider, why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.configured, r.why
}

// open opens a root key of a rotation: one that shares gave is named by its id.
func (r *roots) open(ctx context.Context, spec string) (rootkey.Provider, error) {
	if id, ok := strings.CutPrefix(spec, "shamir:"); ok {
		if root := r.n.keyring.Root(id); root != nil {
			return root, nil
		}
		return nil, fmt.Errorf("this node has not been given enough shares of the root key %s: %w", id, rootkey.ErrShares)
	}
	if own := r.n.config; !rootkey.Follows(own.RootKey, spec) && (own.RootKeyNext == "" || spec != own.RootKeyNext) {
		return nil, errNotConfigured
	}
	return rootkey.Open(ctx, spec)
}

// errNotConfigured keeps whoever can make an entry of the log, or leads, from having nodes encrypt under a key of
// theirs, and from loading a module of their choice into this process.
var errNotConfigured = errors.New("this root key is neither that of its configuration (root-key) with another number" +
	" behind its name, nor the one that it may be rotated to (root-key-next): set that on every node first")

// sealed says why this node can't unwrap the region's keys; nil if it can, or if there is no region yet and a key to
// form it.
func (r *roots) sealed() error {
	c, formed, err := r.n.formed()
	if err != nil {
		return err
	}
	configured, why := r.state()
	switch {
	case !formed && configured != nil, formed && r.n.keyring.Root(c.RootKeyID) != nil:
		return nil
	case why != nil:
		return fmt.Errorf("sealed: %w", why)
	case !formed:
		return errors.New("sealed: the root key has not been given")
	}
	return fmt.Errorf("sealed: the region's keys are under the root key %s (%s), which this node can't reach",
		c.RootKeyID, c.RootKey)
}

// follow looks for the root key that the region's keys are under, where this node does not have it: it was not
// reachable before, or was rotated while this node was away.
func (r *roots) follow(ctx context.Context) {
	r.following.Lock()
	defer r.following.Unlock()
	if r.sealed() == nil || !r.mayTry() {
		return
	}
	if configured, why := r.state(); configured == nil && !errors.Is(why, rootkey.ErrShares) {
		if err := r.openConfigured(ctx); err != nil {
			r.n.log.Warn("the root key can't be opened", "error", err)
		}
	}
	c, formed, err := r.n.formed()
	if err != nil || !formed || c.RootKey == "" || r.n.keyring.Root(c.RootKeyID) != nil {
		return
	}
	root, err := r.open(ctx, c.RootKey)
	if err != nil {
		r.n.log.Warn("the region's root key can't be opened", "root_key", c.RootKey, "error", err)
		return
	}
	r.n.keyring.AddRoot(root)
	r.n.log.Info("this node follows a rotation of the root key: set it in its configuration", "root_key", c.RootKey)
}

// mayTry bounds how often follow tries.
func (r *roots) mayTry() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if now.Before(r.next) {
		return false
	}
	r.next = now.Add(followRetry)
	return true
}

// take takes one share. When there are enough of one root key it is combined and used.
func (r *roots) take(text string) (have, threshold int, err error) {
	s, err := rootkey.ParseShare(text)
	if err != nil {
		return 0, 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shares == nil {
		r.shares = map[string][]rootkey.Share{}
	}
	for _, other := range r.shares[s.ID] {
		if other.X == s.X {
			return len(r.shares[s.ID]), s.Threshold, nil
		}
	}
	r.shares[s.ID] = append(r.shares[s.ID], s)
	have = len(r.shares[s.ID])
	if have < s.Threshold {
		return have, s.Threshold, nil
	}
	root, err := rootkey.Combine(r.shares[s.ID])
	delete(r.shares, s.ID)
	if err != nil {
		return 0, s.Threshold, err
	}
	r.n.keyring.AddRoot(root)
	if r.configured == nil && errors.Is(r.why, rootkey.ErrShares) {
		r.configured, r.why = root, nil
	}
	r.n.log.Info("enough shares of a root key were given", "root_key_id", root.ID())
	return have, s.Threshold, nil
}

// SealStatus is what a node says of its root key.
type SealStatus struct {
	Node      string `json:"node"`
	Sealed    string `json:"sealed_because,omitempty"`
	RootKeyID string `json:"root_key_id,omitempty"` // that the region's keys are under
	RootKey   string `json:"root_key,omitempty"`    // how nodes reach it, if it was rotated
	Shares    int    `json:"shares,omitzero"`       // given so far
	Threshold int    `json:"threshold,omitzero"`    // needed
}

func (r *roots) status() SealStatus {
	s := SealStatus{Node: r.n.secrets.peer.Identity.ID}
	if err := r.sealed(); err != nil {
		s.Sealed = err.Error()
	}
	if c, formed, err := r.n.formed(); err == nil && formed {
		s.RootKeyID, s.RootKey = c.RootKeyID, c.RootKey
	}
	return s
}

const (
	followInterval = 500 * time.Millisecond
	followRetry    = time.Second
	maxShareLen    = 1024
)

// calls are what operators and other nodes ask about root keys and KMS keys.
func (r *roots) calls() []cluster.Call {
	operator, leader := []cluster.Caller{cluster.Operators}, []cluster.Caller{cluster.TheLeader}
	return []cluster.Call{
		{Pattern: "GET /rootkey", From: operator, Do: func(
			_ *cluster.Cluster, w http.ResponseWriter, _ *http.Request,
		) {
			answerJSON(w, r.status())
		}},
		{Pattern: "POST /unseal", From: operator, Do: r.handleUnseal},
		{Pattern: "POST /rootkey/offer", From: leader, Do: cluster.Answered(r.offered)},
		{Pattern: "POST /rootkey/rotate", From: operator, Do: r.handleRotate},
		{Pattern: "GET /keys", From: operator, Do: r.n.handleKeyUses},
		{Pattern: "POST /keys/rewrap", From: operator, Do: r.n.handleRewrap},
	}
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.MarshalWrite(w, v) // a caller that has gone asks again
}

func (r *roots) handleUnseal(_ *cluster.Cluster, w http.ResponseWriter, req *http.Request) {
	var share string
	if err := json.UnmarshalRead(http.MaxBytesReader(w, req.Body, maxShareLen), &share); err != nil {
		http.Error(w, "wanted a share", http.StatusBadRequest)
		return
	}
	have, threshold, err := r.take(share)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s := r.status()
	s.Shares, s.Threshold = have, threshold
	answerJSON(w, s)
}

// errOffered says nothing of what the offered name led to: it would tell the caller of files, variables and addresses
// here.
var errOffered = errors.New("it can't open this root key; its log says why")

// offered opens a root key that the leader wants to rotate to, and answers its id.
func (r *roots) offered(ctx context.Context, spec string) (string, error) {
	root, err := r.open(ctx, spec)
	if err != nil {
		r.n.log.Warn("a root key that the leader offers can't be opened", "error", err)
		if errors.Is(err, errNotConfigured) {
			return "", err // nothing was looked at
		}
		return "", errOffered
	}
	r.n.keyring.AddRoot(root)
	return root.ID(), nil
}

// RootRotation is what a rotation of the root key did.
type RootRotation struct {
	RootKeyID string            `json:"root_key_id"`
	Keys      int               `json:"keys"`
	Without   map[string]string `json:"without,omitempty"` // nodes that don't have it yet, and why
}

// handleRotate puts the region's keys under another root key, once the nodes that answer have it.
func (r *roots) handleRotate(c *cluster.Cluster, w http.ResponseWriter, req *http.Request) {
	if !c.AtLeader(w) {
		return
	}
	spec, force := req.URL.Query().Get("to"), req.URL.Query().Get("force") == "true"
	done, err := r.rotate(req.Context(), c, spec, force)
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	r.n.log.Info("the root key was rotated", "root_key", spec,
		"root_key_id", done.RootKeyID, "keys", done.Keys, "without", done.Without)
	answerJSON(w, done)
}

func (r *roots) rotate(ctx context.Context, c *cluster.Cluster, spec string, force bool) (*RootRotation, error) {
	if rootkey.RelativeFile(spec) {
		return nil, fmt.Errorf("the root key file %s is relative to where a node was started:"+
			" give an absolute path, which nodes find it by later", spec)
	}
	to, err := r.open(ctx, spec)
	if err != nil {
		return nil, err
	}
	done := &RootRotation{RootKeyID: to.ID(), Without: map[string]string{}}
	refused := ""
	ask := func(node, id string, err error) {
		var call *cluster.CallError
		switch {
		case errors.As(err, &call):
			refused = node + ": " + call.Message
		case err != nil:
			done.Without[node] = "it did not answer, and learns of the rotation when it is back"
			return
		case id != to.ID():
			refused = fmt.Sprintf("%s: it finds another key there, with the id %s instead of %s", node, id, to.ID())
		default:
			return
		}
		done.Without[node] = refused
	}
	if err := c.AskOthers(ctx, "/rootkey/offer", spec, ask); err != nil {
		return nil, err
	}
	if refused != "" && !force {
		return nil, fmt.Errorf("a node can't reach the root key, and would be sealed:"+
			" make it reachable there, or use --force. %s", refused)
	}
	r.n.keyring.AddRoot(to)
	done.Keys, err = r.n.keys.RotateRoot(ctx, to, spec)
	return done, err
}

func (n *Node) handleKeyUses(c *cluster.Cluster, w http.ResponseWriter, r *http.Request) {
	if err := c.ReadBarrier(r.Context()); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	uses, err := n.service.KeyUses(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	answerJSON(w, uses)
}

func (n *Node) handleRewrap(_ *cluster.Cluster, w http.ResponseWriter, r *http.Request) {
	var after []byte
	if err := json.UnmarshalRead(http.MaxBytesReader(w, r.Body, 4096), &after); err != nil {
		http.Error(w, "wanted a position", http.StatusBadRequest)
		return
	}
	progress, err := n.service.Rewrap(r.Context(), after)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	answerJSON(w, progress)
}

// formed is what the cluster is; false before there is one.
func (n *Node) formed() (c fsm.Cluster, formed bool, err error) {
	err = n.store.View(func(tx *fsm.Tx) error {
		c, formed = tx.Cluster()
		return nil
	})
	return c, formed, err
}
