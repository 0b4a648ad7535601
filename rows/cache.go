package rows

import (
	"bytes"
	"unsafe"

	lru "github.com/hashicorp/golang-lru/v2"
)

// cache holds decoded rows with the payload that they were decoded from: a row that reads the same is not decoded
// again. Reading and verifying it is not saved, so the cache is never stale.
type cache struct{ rows *lru.Cache[string, cachedRow] }

type cachedRow struct {
	payload []byte
	decoded any
}

const cachedRows = 4096

func newCache() *cache {
	rows, err := lru.New[string, cachedRow](cachedRows)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	return &cache{rows}
}

// Decoded returns what decode makes of the row of key, whose payload [Tx.Get] returned, or finds it decoded; nil if
// there is no payload. It may be shared with other readers, and in a writing transaction with whoever reads the row
// later in it: it must not be changed.
func Decoded[T any](t *Tx, key, payload []byte, decode func() *T) *T {
	if payload == nil {
		return nil
	}
	if t.cache == nil {
		if v, ok := t.memo[at(payload)].(*T); ok {
			return v
		}
		v := decode()
		t.Remember(payload, v)
		return v
	}
	if c, ok := t.cache.rows.Get(string(key)); ok && bytes.Equal(c.payload, payload) {
		if v, ok := c.decoded.(*T); ok {
			return v
		}
	}
	v := decode()
	t.cache.rows.Add(string(key), cachedRow{bytes.Clone(payload), v})
	return v
}

// Remember keeps what a payload was decoded to, or encoded from, for [Decoded] in the same writing transaction.
// Payloads are known by where they are: what is remembered of a row that was replaced since is never found.
func (t *Tx) Remember(payload []byte, decoded any) {
	if t.memo != nil {
		t.memo[at(payload)] = decoded
	}
}

func at(payload []byte) *byte { return unsafe.SliceData(payload) }
