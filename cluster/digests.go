package cluster

import (
	"context"
	"fmt"
	"net/http"

	"github.com/fxamacker/cbor/v2"

	"coffer/fsm"
)

// DigestReport is what comparing the nodes' states at one entry found.
type DigestReport struct {
	Index   uint64            `json:"index"`
	Digests map[string]string `json:"digests"`           // by node; "unreachable: …" for one that did not answer
	Differ  []string          `json:"differ,omitempty"`  // nodes told that they are damaged
	Unclear bool              `json:"unclear,omitempty"` // digests differ and none has a majority
}

// CompareDigests proposes a checkpoint, asks every node for the digest of its state there, and tells
// those that differ from the majority that they are damaged. It runs on the leader.
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
	body, err := cbor.Marshal(index)
	if err != nil {
		return report, err
	}
	digests, votes := map[string]uint64{}, map[uint64]int{}
	servers := n.servers()
	for _, s := range servers {
		id := string(s.ID)
		var digest uint64
		if id == n.id {
			digest, err = n.digestAt(ctx, index)
		} else {
			err = n.call(ctx, id, "/checkpoint", body, &digest)
		}
		if err != nil {
			report.Digests[id] = "unreachable: " + err.Error()
			continue
		}
		report.Digests[id] = fmt.Sprintf("%016x", digest)
		digests[id] = digest
		votes[digest]++
	}
	if len(votes) < 2 {
		return report, nil
	}
	report.Unclear = true
	for right, count := range votes {
		if count <= len(servers)/2 {
			continue
		}
		report.Unclear = false
		for id, digest := range digests {
			if digest == right {
				continue
			}
			report.Differ = append(report.Differ, id)
			n.tellDamaged(ctx, id)
		}
	}
	return report, nil
}

func (n *Cluster) tellDamaged(ctx context.Context, id string) {
	if id == n.id {
		n.config.OnDamage(fmt.Errorf("%w: the digest of this node's state differs from that of the majority", fsm.ErrDamaged))
		return
	}
	var ok bool
	if err := n.call(ctx, id, "/damaged", nil, &ok); err != nil {
		n.log.Error("a node's state differs from the others' and it can't be told", "node", id, "error", err)
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

// handleDamaged is the leader's word that this node's state differs from the majority's.
func (n *Cluster) handleDamaged(w http.ResponseWriter, r *http.Request) {
	n.log.Error("the leader found this node's state to differ from the others'", "leader", callerOf(r).ID)
	n.config.OnDamage(fmt.Errorf("%w: the digest of this node's state differs from that of the majority", fsm.ErrDamaged))
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
