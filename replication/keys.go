package replication

import (
	"context"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/google/uuid"

	"coffer/fsm"
	"coffer/serving"
)

// What regions seal to each other with (RFC 9180): ML-KEM-768 with X25519, which a recording of today does not give
// away to a quantum computer.
var (
	kem  = hpke.MLKEM768X25519()
	kdf  = hpke.HKDFSHA256()
	aead = hpke.AES256GCM()
)

// keys is the region's own key pairs, as far as this node has unwrapped them.
type keys struct {
	base *serving.Base

	mu        sync.Mutex // guards unwrapped
	unwrapped map[string]hpke.PrivateKey
}

// ensure makes the region's first key pair. The leader calls it.
func (k *keys) ensure(ctx context.Context) error {
	current, cluster, err := k.state()
	switch {
	case err != nil || len(current) > 0:
		return err
	case cluster.ID == "":
		return serving.ErrNotFormed
	}
	_, err = k.add(ctx, cluster, "")
	return err
}

// rotate makes another key pair the current one. What was sealed to the old one can still be opened.
func (k *keys) rotate(ctx context.Context) (id string, err error) {
	current, cluster, err := k.state()
	if err != nil {
		return "", err
	}
	if len(current) == 0 {
		return "", errors.New("the region has no key pair yet")
	}
	return k.add(ctx, cluster, current[0].ID)
}

func (k *keys) add(ctx context.Context, cluster fsm.Cluster, after string) (string, error) {
	root := k.base.Keyring.Root(cluster.RootKeyID)
	if root == nil {
		return "", serving.ErrSealed
	}
	private, err := kem.GenerateKey()
	if err != nil {
		return "", err
	}
	raw, err := private.Bytes()
	if err != nil {
		return "", err
	}
	defer clear(raw)
	id, err := uuid.NewRandomFromReader(k.base.Random)
	if err != nil {
		return "", err
	}
	pair := fsm.ReplicationKey{ID: id.String(), Public: private.PublicKey().Bytes(), Created: k.base.Millis()}
	if pair.Wrapped, err = root.Wrap(ctx, raw, pair.Binding()); err != nil {
		return "", fmt.Errorf("wrap a replication key under the root key: %w", err)
	}
	out, err := k.base.Propose(ctx, &fsm.AddReplicationKey{Key: pair, Root: root.ID(), After: after})
	if err == nil {
		err = out.Err()
	}
	return pair.ID, err
}

func (k *keys) state() (pairs []fsm.ReplicationKey, cluster fsm.Cluster, err error) {
	err = k.base.Store.View(func(tx *fsm.Tx) error {
		pairs = tx.ReplicationKeys()
		cluster, _ = tx.Cluster()
		return nil
	})
	return pairs, cluster, err
}

// errUnknownKey says that the region has no key pair with the id any more.
var errUnknownKey = errors.New("the region has no such key")

// private is the private half of a pair.
func (k *keys) private(ctx context.Context, id string) (hpke.PrivateKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if key := k.unwrapped[id]; key != nil {
		return key, nil
	}
	pairs, cluster, err := k.state()
	if err != nil {
		return nil, err
	}
	for _, p := range pairs {
		if p.ID != id {
			continue
		}
		root := k.base.Keyring.Root(cluster.RootKeyID)
		if root == nil {
			return nil, serving.ErrSealed
		}
		raw, err := root.Unwrap(ctx, p.Wrapped, p.Binding())
		if err != nil {
			return nil, fmt.Errorf("unwrap a replication key: %w", err)
		}
		defer clear(raw)
		key, err := kem.NewPrivateKey(raw)
		if err != nil {
			return nil, err
		}
		if k.unwrapped == nil {
			k.unwrapped = map[string]hpke.PrivateKey{}
		}
		k.unwrapped[id] = key
		return key, nil
	}
	return nil, errUnknownKey
}

// A region that has a new key proves that it has the pinned one, too: the other region encapsulates to that, and both
// derive what the proof is made with.
const (
	challengeInfo = "coffer replication key challenge v1"
	proofLen      = 32
)

func proof(secret []byte, w *welcome) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(w.KeyID))
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(w.Epoch)))
	mac.Write(w.Public)
	return mac.Sum(nil)
}

func challengeContext(source, target string) []byte {
	return []byte(challengeInfo + "\x00" + source + "\x00" + target)
}

// challenge encapsulates to a pinned key, and answers the secret that the proof must be made with.
func challenge(public []byte, source, target string) (enc, secret []byte, err error) {
	key, err := kem.NewPublicKey(public)
	if err != nil {
		return nil, nil, err
	}
	enc, sender, err := hpke.NewSender(key, kdf, hpke.ExportOnly(), challengeContext(source, target))
	if err != nil {
		return nil, nil, err
	}
	secret, err = sender.Export("proof", proofLen)
	return enc, secret, err
}

// prove answers a challenge to the pair with the id.
func (k *keys) prove(ctx context.Context, id string, enc []byte, source, target string, w *welcome) error {
	key, err := k.private(ctx, id)
	if errors.Is(err, errUnknownKey) {
		return nil // the asker sees that there is no proof
	} else if err != nil {
		return err
	}
	recipient, err := hpke.NewRecipient(enc, key, kdf, hpke.ExportOnly(), challengeContext(source, target))
	if err != nil {
		return err
	}
	secret, err := recipient.Export("proof", proofLen)
	if err != nil {
		return err
	}
	w.Proof = proof(secret, w)
	return nil
}
