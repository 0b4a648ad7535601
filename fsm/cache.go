package fsm

import (
	"bytes"

	lru "github.com/hashicorp/golang-lru/v2"
)

// cache holds decoded rows with the payload that they were decoded from: a row that reads the same is not
// decoded again. Reading and verifying it is not saved, so the cache is never stale.
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

// cached decodes the row of key, or finds it in the transaction's cache; nil if there is none.
func cached[T any](t *Tx, in table, key []byte) *T {
	row, layered := t.find(in, key)
	if row == nil {
		if !layered {
			t.verifyNeighbours(in, key)
		}
		return nil
	}
	payload := in.open(key, row)
	if t.cache != nil {
		if c, ok := t.cache.rows.Get(string(key)); ok && bytes.Equal(c.payload, payload) {
			if v, ok := c.decoded.(*T); ok {
				return v
			}
		}
	}
	v := new(T)
	in.decode(key, payload, v)
	if t.cache != nil {
		t.cache.rows.Add(string(key), cachedRow{bytes.Clone(payload), v})
	}
	return v
}
