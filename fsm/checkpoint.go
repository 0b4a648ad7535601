package fsm

// Checkpoint changes nothing; each node keeps the digest of its state at this entry.
type Checkpoint struct{}

// checkpoints are the digests of the last few Checkpoint commands, kept outside the digest.
var checkpointsKey = []byte("checkpoints")

const keptCheckpoints = 8

// CheckpointDigest is the digest of a node's state at a Checkpoint's entry.
type CheckpointDigest struct {
	Index  uint64 `cbor:"1,keyasint" json:"index"`
	Digest uint64 `cbor:"2,keyasint" json:"digest"`
}

func (c *Checkpoint) apply(w *writeTx) (Outcome, error) {
	kept := append(w.Checkpoints(), CheckpointDigest{w.index, w.Writer.Position().Digest})
	if len(kept) > keptCheckpoints {
		kept = kept[1:]
	}
	w.put(tableCheckpoints, checkpointsKey, encode(kept))
	return Outcome{}, nil
}

// Checkpoints lists the last few checkpoints, oldest first.
func (t *Tx) Checkpoints() []CheckpointDigest {
	var kept []CheckpointDigest
	t.get(tableCheckpoints, checkpointsKey, &kept)
	return kept
}
