package fsm

import (
	"bytes"
	"strings"
	"sync"

	"github.com/fxamacker/cbor/v2"

	"coffer/damage"
	"coffer/rows"
	"coffer/secret"
)

type table = *rows.Table

// The tables, each with what its keys lead to. Their numbers stay.
var (
	// account \0 name -> secret.Secret
	tableSecrets = table(&rows.Table{Num: 1, Name: "secrets"})
	// account \0 name \0 version id -> secret.Version
	tableVersions = table(&rows.Table{Num: 2, Name: "versions"})
	// account \0 secret.Version.Place -> secret.Value; in the order they came
	tableValues = table(&rows.Table{Num: 3, Name: "values", Ascending: true})
	// account \0 key id -> kms.Key
	tableKeys = table(&rows.Table{Num: 4, Name: "keys"})
	// account \0 time name -> nothing
	tableByCreated = table(&rows.Table{Num: 5, Name: "by-created", Ascending: true})
	// the same
	tableByChanged = table(&rows.Table{Num: 6, Name: "by-changed", Ascending: true})
	// the same, time being a day
	tableByAccessed = table(&rows.Table{Num: 7, Name: "by-accessed"})
	// time account \0 name -> nothing
	tableByDeletion = table(&rows.Table{Num: 8, Name: "by-deletion"})
	// "cluster" -> Cluster
	tableCluster = table(&rows.Table{Num: 9, Name: "cluster"})
	// account \0 alias name -> kms.Alias
	tableAliases = table(&rows.Table{Num: 10, Name: "aliases"})
	// region \0 account \0 name -> secret.Link, of primaries
	tableLinks = table(&rows.Table{Num: 11, Name: "links"})
	// primary's region \0 account \0 name -> secret.Replica
	tableReplicas = table(&rows.Table{Num: 12, Name: "replicas"})
	// region \0 kind, and account \0 name -> secret.Lag, or link id -> Notice
	tableOutbox = table(&rows.Table{Num: 13, Name: "outbox", Watched: true})
	// region -> Peer
	tablePeers = table(&rows.Table{Num: 14, Name: "peers"})
	// link id -> when it was ended here, for ever
	tableEnded = table(&rows.Table{Num: 15, Name: "ended"})
	// log index -> commands that were carried out, or epochKey
	tableProposals = table(&rows.Table{Num: 16, Name: "proposals", Ascending: true, Unarchived: true})
	// index -> checksum of the log entry that was skipped there
	tableSkipped = table(&rows.Table{Num: 17, Name: "skipped"})
	// "checkpoints" -> digests at the last few
	tableCheckpoints = table(&rows.Table{Num: 18, Name: "checkpoints", Local: true})
)

var allTables = []*rows.Table{
	tableSecrets, tableVersions, tableValues, tableKeys, tableByCreated, tableByChanged, tableByAccessed, tableByDeletion,
	tableCluster, tableAliases, tableLinks, tableReplicas, tableOutbox, tablePeers, tableEnded,
	tableProposals, tableSkipped, tableCheckpoints,
}

func init() { tableSecrets.Derive = indexSecret } // not above, since it uses the tables

// ErrDamaged says that something stored is not what was written. The node must not serve any more.
var ErrDamaged = damage.Err

// decoding is strict, for what comes over the wire and is in the log: it refuses what this version of Coffer does not
// know, where it would be dropped. rowDecoding reads what a checksum vouches for.
var encoding, decoding, rowDecoding = func() (cbor.UserBufferEncMode, cbor.DecMode, cbor.DecMode) {
	enc, err := cbor.CoreDetEncOptions().UserBufferEncMode() // deterministic: same value, same bytes (RFC 8949, 4.2.1)
	if err != nil {
		panic(err)
	}
	dec, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		MaxArrayElements: 1 << 20, UTF8: cbor.UTF8DecodeInvalid,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	rows, err := cbor.DecOptions{UTF8: cbor.UTF8DecodeInvalid}.DecMode()
	if err != nil {
		panic(err)
	}
	return enc, dec, rows
}()

// marshal encodes what travels: commands and entries.
func marshal(v any) []byte {
	b, err := encoding.Marshal(v)
	if err != nil {
		panic(err) // only for types that cannot be encoded
	}
	return b
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// encode is v as a row that is about to be written.
func encode(v any) rows.Row {
	b := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(b)
	b.Reset()
	if err := encoding.MarshalToBuffer(v, b); err != nil {
		panic(err) // only for types that cannot be encoded
	}
	return rows.NewRow(b.Bytes())
}

// decode decodes the payload of key's row into a value. That it can't is a contradiction, since its checksum is right.
func decode(t table, key, payload []byte, into any) {
	if err := rowDecoding.Unmarshal(payload, into); err != nil {
		t.Contradicts(key, "can't be decoded: "+err.Error())
	}
}

// decodeSecret decodes a secret's row, which does not repeat what its key says.
func decodeSecret(key, payload []byte, into *secret.Secret) {
	decode(tableSecrets, key, payload, into)
	into.Account, into.Name, _ = strings.Cut(string(key), "\x00")
}
