package secret

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// Link is the replication relation of one primary secret to one replica region, as the primary's region keeps it.
type Link struct {
	ID string `cbor:"1,keyasint"`
	// KMS key in the replica region, as the caller named it; its default key if empty
	KeyID string `cbor:"2,keyasint,omitempty"`
	// a secret that has the name there is displaced; until the first acknowledgement
	Overwrite bool `cbor:"3,keyasint,omitempty"`
	// the last acknowledged revision; 0 before, and when everything must be sent again
	Acked       uint64 `cbor:"4,keyasint,omitempty"`
	AckedAt     int64  `cbor:"5,keyasint,omitempty"`
	AccessedDay int64  `cbor:"6,keyasint,omitempty"` // of the replica
	Failed      string `cbor:"7,keyasint,omitempty"` // why the replica region refused the last state
	// with the last state the replica becomes the primary, with these links
	HandOver []NewLink `cbor:"8,keyasint,omitempty"`
}

// NewLink is a link that is to be.
type NewLink struct {
	ID        string `cbor:"1,keyasint"`
	Region    string `cbor:"2,keyasint"`
	KeyID     string `cbor:"3,keyasint,omitempty"`
	Overwrite bool   `cbor:"4,keyasint,omitempty"`
}

// Replica is what a replica region knows of a replica's primary.
type Replica struct {
	Link       string `cbor:"1,keyasint"`
	Epoch      int64  `cbor:"2,keyasint,omitempty"` // of the primary's region, when it sent Revision
	Revision   uint64 `cbor:"3,keyasint,omitempty"` // the last one received; 0 before the first
	ChangedAt  int64  `cbor:"4,keyasint,omitempty"` // when the primary came to it
	ReceivedAt int64  `cbor:"5,keyasint,omitempty"`
	Partial    bool   `cbor:"6,keyasint,omitempty"` // versions without labels are still on their way
}

// Lag is what a replica region has not acknowledged of one secret: an entry of the outbox.
type Lag struct {
	Since   int64   `cbor:"1,keyasint"`           // of the oldest such change
	Request []byte  `cbor:"2,keyasint,omitempty"` // id of the request that made the newest
	Added   []Added `cbor:"3,keyasint,omitempty"` // versions that were added
	// revision up to which Added does not tell the whole difference; 0 if it does
	Full uint64 `cbor:"4,keyasint,omitempty"`
}

// Added is a version with the revision that added it.
type Added struct {
	Version  string `cbor:"1,keyasint"`
	Revision uint64 `cbor:"2,keyasint"`
}

// MaxAdded bounds the versions that a Lag lists.
const MaxAdded = 16

// Origin is where a promoted secret was a replica of.
type Origin struct {
	Region   string `cbor:"1,keyasint"`
	Epoch    int64  `cbor:"2,keyasint"`
	Revision uint64 `cbor:"3,keyasint"` // the last one received
}

// Displaced is why and when a secret was set aside.
type Displaced struct {
	Name string `cbor:"1,keyasint"` // that it had
	By   string `cbor:"2,keyasint"` // region whose replica took its place
	At   int64  `cbor:"3,keyasint"`
}

// KeepDisplaced is how long a displaced secret can be restored, in milliseconds.
const KeepDisplaced = 30 * 24 * 60 * 60 * 1000

// displacedPrefix begins the key of a displaced secret; no valid name has it.
const displacedPrefix = "~"

// DisplacedKey is what the displaced secret with the id is stored under, instead of a name.
func DisplacedKey(id string) string { return displacedPrefix + id }

// IsDisplacedKey reports whether key can be a DisplacedKey.
func IsDisplacedKey(key string) bool {
	id, ok := strings.CutPrefix(key, displacedPrefix)
	return ok && ValidName(id)
}

// DisplacedID is the inverse of DisplacedKey.
func (s *Secret) DisplacedID() string { return s.Name[len(displacedPrefix):] }

// PrimaryRegion is the region of the primary of s, which is in region itself; empty if it is not replicated.
func (s *Secret) PrimaryRegion(region string) string {
	if s.Primary == "" && len(s.Replicas) > 0 {
		return region
	}
	return s.Primary
}

// StateDigest is a digest of what a replica must have in common with its primary, the versions' values excepted.
func (s *Secret) StateDigest() uint64 {
	var d xxhash.Digest
	d.Reset()
	text := func(of ...string) {
		for _, t := range of {
			_, _ = d.Write(binary.AppendUvarint(nil, uint64(len(t))))
			_, _ = d.WriteString(t)
		}
	}
	text(s.Suffix, s.Description, s.Policy, string(s.Labels))
	for _, t := range s.Tags {
		text(t.Key, t.Value)
	}
	n := binary.BigEndian.AppendUint64(nil, uint64(s.Versions))
	_, _ = d.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(n, uint64(s.Created)), uint64(s.Changed)))
	return d.Sum64()
}

// Labelled lists the versions that have a label, each once, sorted.
func (s *Secret) Labelled() []string {
	var ids []string
	for _, id := range s.Labels.All() {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
