package fsm

import "coffer/kms"

// Cluster is what a region's cluster is, decided once when it is formed.
type Cluster struct {
	ID        string `cbor:"1,keyasint"`
	Region    string `cbor:"2,keyasint"`
	Account   string `cbor:"3,keyasint"`
	RootKeyID string `cbor:"4,keyasint"`
	Created   int64  `cbor:"5,keyasint"`
	// DefaultKeyID is the key behind alias/aws/secretsmanager.
	DefaultKeyID string `cbor:"6,keyasint"`
	// RootKey is how nodes reach the root key since it was last rotated (rootkey.Schemes); it is no secret.
	RootKey string `cbor:"7,keyasint,omitempty"`
	// Format is the format of the state ([FormatRange]).
	Format uint64 `cbor:"9,keyasint"`
	// Epoch is when the state began that other regions know: at the forming, or at the last restore (milliseconds since
	// 1970). Of what the region sends, other regions take nothing of an earlier epoch than they have seen.
	Epoch int64 `cbor:"8,keyasint,omitempty"`
}

// InitCluster forms the cluster's state: who it is, and its default key. The first one wins.
type InitCluster struct {
	Cluster Cluster `cbor:"1,keyasint"`
	Key     kms.Key `cbor:"2,keyasint"`
}

func (c *InitCluster) apply(w *writeTx) (Outcome, error) {
	if _, formed := w.Cluster(); formed {
		return Outcome{}, nil
	}
	w.putKey(&c.Key)
	alias := kms.Alias{Name: kms.DefaultAlias, KeyID: c.Key.ID, Created: c.Key.Created, Updated: c.Key.Created}
	w.put(tableAliases, secretKey(c.Key.Account, alias.Name), encode(alias))
	w.put(tableCluster, clusterKey, encode(c.Cluster))
	w.beginProposals(0)
	return Outcome{}, nil
}

// Cluster is what this cluster is; false before it was formed.
func (t *Tx) Cluster() (Cluster, bool) {
	c := cached[Cluster](t, tableCluster, clusterKey)
	if c == nil {
		return Cluster{}, false
	}
	return *c, true
}

var clusterKey = []byte("cluster")

// here is the region's own row.
func (w *writeTx) here() Cluster {
	cluster, _ := w.Cluster()
	return cluster
}

// BeginEpoch begins an epoch: what the region sends from now on can contradict what it sent before, and what it
// received is no longer what it acknowledged. Everything is sent again. Commands that were made before are not carried
// out any more.
type BeginEpoch struct {
	At int64 `cbor:"1,keyasint"`
}

func (c *BeginEpoch) apply(w *writeTx) (Outcome, error) {
	cluster, formed := w.Cluster()
	if !formed {
		return Outcome{}, nil
	}
	cluster.Epoch = max(cluster.Epoch+1, c.At)
	w.put(tableCluster, clusterKey, encode(cluster))
	w.beginProposals(w.index)
	w.sendAllAgain("", c.At)
	return Outcome{}, nil
}
