package cluster

import (
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
)

// bookFile keeps the address book of a node in its data directory.
const bookFile = "peers.json"

// book holds where nodes of the region were last found, and what they said there, each proven by the certificate that
// answered. Gossip is only a hint beside it: whoever has the gossip key can name another address for a node.
type book struct {
	path string

	mu      sync.Mutex // guards below
	entries map[string]entry
}

// entry is what was last proven of a node.
type entry struct {
	Peer    string `json:"peer"`              // host:port of its peer port
	Format  uint64 `json:"newest_format"`     // that it works with; 0 before it said so
	Cluster string `json:"cluster,omitempty"` // id of the cluster that it is of
}

// openBook reads the book of a data directory. One that can't be read is empty: it only helps to find nodes sooner.
func openBook(dir string) *book {
	b := &book{path: filepath.Join(dir, bookFile), entries: map[string]entry{}}
	if raw, err := os.ReadFile(b.path); err != nil || json.Unmarshal(raw, &b.entries) != nil || b.entries == nil {
		b.entries = map[string]entry{}
	}
	return b
}

func (b *book) of(id string) (entry, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.entries[id]
	return e, ok
}

// note changes what is known of a node, and keeps the book where that is new.
func (b *book) note(id string, change func(*entry)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[id]
	before := e
	if change(&e); e == before {
		return
	}
	b.entries[id] = e
	raw, err := json.Marshal(b.entries)
	if err == nil && os.WriteFile(b.path+".new", raw, 0o600) == nil {
		_ = os.Rename(b.path+".new", b.path) // without it the node finds others by gossip alone after a restart
	}
}
