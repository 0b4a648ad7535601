package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"

	"github.com/fxamacker/cbor/v2"

	"coffer/fsm"
)

// DigestReport is what comparing the nodes' states at one entry found.
type DigestReport struct {
	Index   uint64            `json:"index"`
	Digests map[string]string `json:"digests"`           // by node; "unreachable: …" for one that did not answer
	Differ  []string          `json:"differ,omitempty"`  // from the majority's; the first is told
	Unclear bool              `json:"unclear,omitempty"` // digests differ and none has a majority
}

// CompareDigests proposes a checkpoint, asks every node for the digest of its state there, and tells the first of those
// that differ from the majority so. It runs on the leader.
func (n *Cluster) CompareDigests(ctx context.Context) (DigestReport, error) {
	if _, err := n.Propose(ctx, n.encode(&fsm.Checkpoint{})); err != nil {
		return DigestReport{}, err
	}
	var index uint64
	err := n.config.Store.View(func(tx *fsm.Tx) error {
		if kept := tx.Checkpoints(); len(kept) > 0 {
			index = kept[len(kept)-1].Index
		}
		return nil
	})
	if err != nil {
		return DigestReport{}, err
	}
	report := DigestReport{Index: index, Digests: map[string]string{}}
	digests, complete := n.digestsAt(ctx, index, func(id, said string) { report.Digests[id] = said })
	right, clear := n.majority(digests)
	for id, digest := range digests {
		if clear && digest != right {
			report.Differ = append(report.Differ, id)
		}
	}
	slices.Sort(report.Differ)
	report.Unclear = !clear && len(slices.Compact(slices.Sorted(maps.Values(digests)))) > 1
	// One at a time: another one may be away, or be taking everything anew after it was told.
	if len(report.Differ) > 0 && complete {
		n.tellDamaged(ctx, report.Differ[0], index)
	}
	return report, nil
}

// digestsAt asks all members for their digest at a checkpoint. complete says that all are voters, and answered.
func (n *Cluster) digestsAt(ctx context.Context, index uint64, tell func(id, said string)) (
	digests map[string]uint64, complete bool,
) {
	digests, complete = map[string]uint64{}, true
	body, err := cbor.Marshal(index)
	if err != nil {
		return digests, false
	}
	var mu sync.Mutex // guards what follows
	var asked sync.WaitGroup
	for _, s := range n.servers() {
		id := string(s.ID)
		asked.Go(func() {
			var digest uint64
			var err error
			if id == n.id {
				digest, err = n.digestAt(ctx, index)
			} else {
				err = n.call(ctx, id, "/checkpoint", body, &digest)
			}
			mu.Lock()
			defer mu.Unlock()
			complete = complete && err == nil && isVoter(s)
			if err != nil {
				tell(id, "unreachable: "+err.Error())
				return
			}
			digests[id] = digest
			tell(id, fmt.Sprintf("%016x", digest))
		})
	}
	asked.Wait()
	return digests, complete
}

// majority is the digest that a majority of all voters has; false if there is none.
func (n *Cluster) majority(digests map[string]uint64) (right uint64, clear bool) {
	votes := map[uint64]int{}
	for _, s := range n.servers() {
		if digest, ok := digests[string(s.ID)]; ok && isVoter(s) {
			votes[digest]++
		}
	}
	for digest, count := range votes {
		if count > n.voters()/2 {
			return digest, true
		}
	}
	return 0, false
}

// ErrDiverged says that this node's state is not that of the others.
var ErrDiverged = errors.New("this node's state differs from that of a majority of the voters")

// examine asks all voters, because somebody says that this node's state differs from theirs, and has it leave service
// if a majority of them agrees on another digest. Nobody's word alone is believed, not the leader's either; this node's
// own rows prove nothing, since a state that went another way agrees with itself. Such a majority is there when it has
// left.
func (n *Cluster) examine(ctx context.Context, index uint64) error {
	digests, _ := n.digestsAt(ctx, index, func(string, string) {})
	own, ok := digests[n.id]
	right, clear := n.majority(digests)
	switch {
	case !ok:
		return fmt.Errorf("this node has no digest at entry %d", index)
	case !clear:
		return fmt.Errorf("no majority of the voters agrees on a digest at entry %d", index)
	case right == own:
		return fmt.Errorf("the majority of the voters has this node's digest at entry %d", index)
	}
	n.config.OnDiverged(fmt.Errorf("%w at entry %d", ErrDiverged, index))
	return nil
}

// accusation is the leader's word that a node's state differs.
type accusation struct {
	Index uint64 `cbor:"1,keyasint"`
	Term  uint64 `cbor:"2,keyasint"`
}

func (n *Cluster) tellDamaged(ctx context.Context, id string, index uint64) {
	var err error
	if id == n.id {
		err = n.examine(ctx, index)
	} else if body, encErr := cbor.Marshal(accusation{index, n.LeaderTerm()}); encErr == nil {
		var ok bool
		err = n.call(ctx, id, "/damaged", body, &ok)
	}
	if err != nil {
		n.log.Error("a node's state differs from the others', and it does not leave service", "node", id, "error", err)
	}
}

// handleCheckpoint answers this node's digest at a Checkpoint's entry.
func (n *Cluster) handleCheckpoint(w http.ResponseWriter, r *http.Request) {
	var index uint64
	if err := readCBOR(r, &index); err != nil {
		http.Error(w, "wanted an index", http.StatusBadRequest)
		return
	}
	digest, err := n.digestAt(r.Context(), index)
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	writeCBOR(w, digest)
}

func (n *Cluster) digestAt(ctx context.Context, index uint64) (digest uint64, err error) {
	if err := n.config.Store.WaitApplied(ctx, index); err != nil {
		return 0, err
	}
	found := false
	err = n.config.Store.View(func(tx *fsm.Tx) error {
		for _, c := range tx.Checkpoints() {
			if c.Index == index {
				digest, found = c.Digest, true
			}
		}
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("no checkpoint at entry %d", index)
	}
	return digest, err
}

// handleDamaged looks into what the leader says of this node's state.
func (n *Cluster) handleDamaged(w http.ResponseWriter, r *http.Request) {
	var a accusation
	if err := readCBOR(r, &a); err != nil {
		http.Error(w, "wanted an index and a term", http.StatusBadRequest)
		return
	}
	if node := n.raft.Load(); node.CurrentTerm() != a.Term {
		http.Error(w, "this is said in another term", http.StatusConflict)
		return
	}
	if !n.examining.TryLock() {
		http.Error(w, "this node looks into it already", http.StatusConflict)
		return
	}
	defer n.examining.Unlock()
	n.log.Warn("the leader says that this node's state differs from the others'", "leader", callerOf(r).ID)
	if err := n.examine(r.Context(), a.Index); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	writeCBOR(w, true)
}

func (n *Cluster) handleVerify(w http.ResponseWriter, r *http.Request) {
	if !n.AtLeader(w) {
		return
	}
	report, err := n.CompareDigests(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	writeJSON(w, report)
}
