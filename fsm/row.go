package fsm

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/fxamacker/cbor/v2"

	"coffer/damage"
	"coffer/secret"
)

// table is one bucket of the store. The numbers are part of row checksums and of snapshots, and stay.
type table byte

const (
	tableMeta       table = iota // state row, checkpoints; not part of the digest or of snapshots
	tableSecrets                 // account \0 name -> secret.Secret
	tableVersions                // account \0 name \0 version id -> secret.Version
	tableValues                  // account \0 secret.Version.Place -> secret.Value; in the order they came, so that they fill pages
	tableKeys                    // account \0 key id -> kms.Key
	tableByCreated               // account \0 time name -> nothing
	tableByChanged               // the same
	tableByAccessed              // the same, time being a day
	tableByDeletion              // time account \0 name -> nothing
	tableCluster                 // "cluster" -> Cluster
	tableAliases                 // account \0 alias name -> kms.Alias
	tableLinks                   // region \0 account \0 name -> secret.Link, of primaries
	tableReplicas                // primary's region \0 account \0 name -> secret.Replica
	tableOutbox                  // region \0 kind, and account \0 name -> secret.Lag, or link id -> Notice
	tablePeers                   // region -> Peer
	tableEnded                   // link id -> when it was ended here, for ever
	tableProposals               // log index -> commands that were carried out, or epochKey; not part of archives
	tables
)

var tableNames = [tables][]byte{
	[]byte("meta"), []byte("secrets"), []byte("versions"), []byte("values"), []byte("keys"),
	[]byte("by-created"), []byte("by-changed"), []byte("by-accessed"), []byte("by-deletion"), []byte("cluster"), []byte("aliases"),
	[]byte("links"), []byte("replicas"), []byte("outbox"), []byte("peers"), []byte("ended"), []byte("proposals"),
}

// ErrDamaged says that something stored is not what was written. The node must not serve any more.
var ErrDamaged = damage.Err

func (t table) damaged(key []byte, what string) damage.Found {
	return damage.Found(fmt.Sprintf("row %x of table %s %s", key, tableNames[t], what))
}

const sumLen = 8

// sum is the checksum of a row, bound to its place.
func (t table) sum(key, payload []byte) uint64 {
	var d xxhash.Digest
	d.Reset()
	var head [1 + binary.MaxVarintLen64]byte
	head[0] = byte(t)
	n := binary.PutUvarint(head[1:], uint64(len(key)))
	_, _ = d.Write(head[:1+n])
	_, _ = d.Write(key)
	_, _ = d.Write(payload)
	return d.Sum64()
}

// open verifies a stored row and returns its payload.
func (t table) open(key, row []byte) []byte {
	if len(row) < sumLen || t.sum(key, row[sumLen:]) != binary.BigEndian.Uint64(row) {
		panic(t.damaged(key, "does not match its checksum"))
	}
	return row[sumLen:]
}

// decoding is strict, for what comes over the wire; rowDecoding reads what a checksum vouches for.
var encoding, decoding, rowDecoding = func() (cbor.EncMode, cbor.DecMode, cbor.DecMode) {
	enc, err := cbor.CoreDetEncOptions().EncMode() // deterministic: same value, same bytes (RFC 8949, 4.2.1)
	if err != nil {
		panic(err)
	}
	dec, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxArrayElements: 1 << 20, UTF8: cbor.UTF8DecodeInvalid}.DecMode()
	if err != nil {
		panic(err)
	}
	rows, err := cbor.DecOptions{UTF8: cbor.UTF8DecodeInvalid}.DecMode()
	if err != nil {
		panic(err)
	}
	return enc, dec, rows
}()

func encode(v any) []byte {
	b, err := encoding.Marshal(v)
	if err != nil {
		panic(err) // only for types that cannot be encoded
	}
	return b
}

func (t table) decode(key, payload []byte, into any) {
	if err := rowDecoding.Unmarshal(payload, into); err != nil {
		panic(t.damaged(key, "can't be decoded: "+err.Error()))
	}
	if s, ok := into.(*secret.Secret); ok { // its row does not repeat what its key says
		s.Account, s.Name, _ = strings.Cut(string(key), "\x00")
	}
}

func secretKey(account, name string) []byte {
	b := make([]byte, 0, len(account)+1+len(name))
	return append(append(append(b, account...), 0), name...)
}

func versionKey(account, name, id string) []byte {
	b := make([]byte, 0, len(account)+len(name)+len(id)+2)
	return append(append(append(append(append(b, account...), 0), name...), 0), id...)
}

func valueKey(account string, place uint64) []byte {
	b := make([]byte, 0, len(account)+9)
	return binary.BigEndian.AppendUint64(append(append(b, account...), 0), place)
}

func timeKey(account string, at int64, name string) []byte {
	b := make([]byte, 0, len(account)+9+len(name))
	b = append(append(b, account...), 0)
	return append(binary.BigEndian.AppendUint64(b, uint64(at)), name...)
}

// regionKey is the key of what belongs to a secret and a region.
func regionKey(region, account, name string) []byte {
	b := make([]byte, 0, len(region)+len(account)+len(name)+2)
	return append(append(append(append(append(b, region...), 0), account...), 0), name...)
}

func deletionKey(at int64, account, name string) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 9+len(account)+len(name)), uint64(at))
	return append(append(append(b, account...), 0), name...)
}
