package serving

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"coffer/fsm"
	"coffer/kms"
	"coffer/kms/rootkey"
)

// ErrSealed says that the root key which the region's keys are wrapped under has not been given to this node.
var ErrSealed = &UnavailableError{Message: "This node is sealed: it has not been given the region's root key."}

// Keyring unwraps KMS keys. It holds the root keys that this node was given, and a bounded number of unwrapped
// keys.
type Keyring struct {
	follow func(context.Context) // may be nil

	mu    sync.RWMutex
	roots map[string]rootkey.Provider // by id; two during a rotation of the root key

	unwrapped *lru.Cache[material, []byte]
}

// material names key material: by its own id, since a generation whose material was never current can be replaced.
type material struct{ account, key, id string }

const cachedMaterial = 1024

// NewKeyring makes a keyring that has no root key yet. follow looks for the root key that the region's keys are under,
// where the keyring does not have it; it may be nil.
func NewKeyring(follow func(context.Context)) *Keyring {
	unwrapped, err := lru.New[material, []byte](cachedMaterial)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	return &Keyring{follow: follow, roots: map[string]rootkey.Provider{}, unwrapped: unwrapped}
}

// AddRoot gives the keyring a root key.
func (k *Keyring) AddRoot(root rootkey.Provider) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.roots[root.ID()] = root
}

// Root is the root key with the id; nil if this node was not given it.
func (k *Keyring) Root(id string) rootkey.Provider {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.roots[id]
}

func (k *Keyring) root(cluster fsm.Cluster) (rootkey.Provider, error) {
	if root := k.Root(cluster.RootKeyID); root != nil {
		return root, nil
	}
	return nil, ErrSealed
}

// Material is the unwrapped material of one generation of a key. Whether the key may be used is the caller's to
// check. An error ends the operation, which may be called again.
func (v *View) Material(key *kms.Key, generation uint32) ([]byte, error) {
	if int(generation) >= len(key.Materials) || len(key.Materials[generation].Wrapped) == 0 {
		return nil, kms.ErrInvalidCiphertext
	}
	id := material{key.Account, key.ID, key.Materials[generation].ID}
	if raw, ok := v.Keyring.unwrapped.Get(id); ok {
		return raw, nil
	}
	if raw, ok := v.unwrapped[id]; ok {
		return raw, nil
	}
	return nil, v.Outside(func(ctx context.Context, root rootkey.Provider) error {
		if v.unwrapped[id] != nil {
			return nil // asked for twice
		}
		raw, err := key.UnwrapMaterial(ctx, root, generation)
		if err != nil {
			return err
		}
		v.unwrapped[id] = raw
		v.Keyring.unwrapped.Add(id, raw)
		return nil
	})
}

// Encrypt encrypts plaintext under the current material of a key. Whether the key may be used is the caller's to check,
// as it is for Decrypt.
func (v *View) Encrypt(key *kms.Key, bound kms.EncryptionContext, plaintext []byte) ([]byte, error) {
	material, err := v.Material(key, key.Generation())
	if err != nil {
		return nil, err
	}
	id, err := uuid.Parse(key.ID)
	if err != nil {
		return nil, err
	}
	return kms.Seal(material, id, key.Generation(), bound, plaintext, v.Random)
}

// Decrypt opens what Encrypt made with one generation of a key's material, which the ciphertext's header names.
func (v *View) Decrypt(key *kms.Key, generation uint32, bound kms.EncryptionContext,
	ciphertext []byte) ([]byte, error) {
	material, err := v.Material(key, generation)
	if err != nil {
		return nil, err
	}
	return kms.Open(material, bound, ciphertext)
}

// defaultMaterial is the first generation of the region's default key, which Coffer derives keys of its own from.
func (v *View) defaultMaterial() ([]byte, error) {
	key := v.Key(v.State.Account, v.State.DefaultKeyID)
	if key == nil {
		return nil, errors.New("the region's default key is missing")
	}
	return v.Material(key, 0)
}

// Forget drops the unwrapped material of keys that were deleted, or whose material was.
func (k *Keyring) Forget(store *fsm.Store) error {
	return store.View(func(tx *fsm.Tx) error {
		for _, id := range k.unwrapped.Keys() {
			key := tx.Key(id.account, id.key)
			if key == nil || !slices.ContainsFunc(key.Materials, func(m kms.Material) bool {
				return m.ID == id.id && len(m.Wrapped) > 0
			}) {
				k.unwrapped.Remove(id) // not cleared: a request may be using it
			}
		}
		return nil
	})
}
