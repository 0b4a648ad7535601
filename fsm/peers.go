package fsm

import (
	"slices"
)

// Peer is what a region knows of another one, or, under its own name, of who follows it.
type Peer struct {
	Region string `cbor:"-"` // in the row's key

	// As a replica region: its public key, pinned at first sight, and its epoch.
	KeyID  string `cbor:"1,keyasint,omitempty"`
	Public []byte `cbor:"2,keyasint,omitempty"`
	Epoch  int64  `cbor:"3,keyasint,omitempty"`
	Down   int64  `cbor:"4,keyasint,omitempty"` // since when it can't be reached; 0 while it can
	Why    string `cbor:"5,keyasint,omitempty"`

	// As a primary's region: the newest epoch and leader's term that it sent from.
	SeenEpoch int64  `cbor:"6,keyasint,omitempty"`
	SeenTerm  uint64 `cbor:"7,keyasint,omitempty"`
	// What it last said of its outbox to here.
	Report Report `cbor:"8,keyasint,omitempty"`

	// Successors are the regions that may take the secrets over whose primary was in Region, while it was lost.
	Successors []string `cbor:"9,keyasint,omitempty"`
}

// Report is what a region says of its outbox to another region.
type Report struct {
	At      int64 `cbor:"1,keyasint,omitempty" json:"at"`
	Lagging int   `cbor:"2,keyasint,omitempty" json:"lagging"` // secrets
	Oldest  int64 `cbor:"3,keyasint,omitempty" json:"oldest"`  // of the changes that were not acknowledged
}

type (
	// SetPeer records what a region says of itself, and whether it can be reached. A new epoch has everything sent again.
	SetPeer struct {
		Region string `cbor:"1,keyasint"`
		At     int64  `cbor:"2,keyasint"`
		KeyID  string `cbor:"3,keyasint,omitempty"`
		Public []byte `cbor:"4,keyasint,omitempty"`
		Epoch  int64  `cbor:"5,keyasint,omitempty"`
		Down   int64  `cbor:"6,keyasint,omitempty"`
		Why    string `cbor:"7,keyasint,omitempty"`
	}
	// SetSuccessors says which regions may take over secrets whose primary is or was in Region.
	SetSuccessors struct {
		Region string   `cbor:"1,keyasint"`
		By     []string `cbor:"2,keyasint,omitempty"`
	}
	// ReportPeer records what a region says of its outbox to here.
	ReportPeer struct {
		Region string `cbor:"1,keyasint"`
		Report Report `cbor:"2,keyasint"`
	}
)

// Peer is what is known of region; a zero one with its name if nothing is.
func (t *Tx) Peer(region string) Peer {
	p := Peer{}
	t.get(tablePeers, []byte(region), &p)
	p.Region = region
	return p
}

// Peers calls visit with all regions that something is known of.
func (t *Tx) Peers(visit func(Peer)) {
	for key, payload := range t.Ascend(tablePeers, nil) {
		var p Peer
		decode(tablePeers, key, payload, &p)
		p.Region = string(key)
		visit(p)
	}
}

func (w *writeTx) putPeer(p Peer) { w.put(tablePeers, []byte(p.Region), encode(&p)) }

func (c *SetPeer) apply(w *writeTx) (Outcome, error) {
	p := w.Peer(c.Region)
	p.Down, p.Why = c.Down, c.Why
	if c.Public != nil {
		p.KeyID, p.Public = c.KeyID, c.Public
	}
	if c.Epoch != 0 {
		if p.Epoch != 0 && p.Epoch != c.Epoch {
			w.sendAllAgain(c.Region, c.At)
		}
		p.Epoch = c.Epoch
	}
	w.putPeer(p)
	return Outcome{}, nil
}

func (c *SetSuccessors) apply(w *writeTx) (Outcome, error) {
	p := w.Peer(c.Region)
	p.Successors = slices.Sorted(slices.Values(c.By))
	w.putPeer(p)
	return Outcome{}, nil
}

func (c *ReportPeer) apply(w *writeTx) (Outcome, error) {
	p := w.Peer(c.Region)
	p.Report = c.Report
	w.putPeer(p)
	return Outcome{}, nil
}
