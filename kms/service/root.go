package service

import (
	"context"
	"errors"
	"time"

	"coffer/fsm"
	"coffer/kms"
	"coffer/kms/rootkey"
	"coffer/refusal"
	"coffer/serving"
)

// made is key material that an operation made for a key, wrapped outside of transactions. It holds for one root key and
// generation, and is made again for another.
type made struct {
	kms.Material
	root       string
	generation int
}

// fits reports whether m is for a generation under the root key as it is now.
func (m *made) fits(v *serving.View, generation int) bool {
	return m.root == v.State.RootKeyID && m.generation == generation
}

// draw draws material for key's next generation, and has the operation called again.
func (m *made) draw(v *serving.View, key *kms.Key) error {
	return v.Outside(func(ctx context.Context, root rootkey.Provider) (err error) {
		m.root, m.generation = root.ID(), len(key.Materials)
		m.Material, err = key.NewMaterial(ctx, root, v.Random)
		return err
	})
}

// rotateTimeout bounds how long a rotation of the root key is tried while new key material is made.
const rotateTimeout = time.Minute

// RotateRoot puts all keys of the region that are under its root key under another one, in one replicated step. spec
// says how nodes reach it. It answers how many keys there are.
func (s *Service) RotateRoot(ctx context.Context, to rootkey.Provider, spec string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, rotateTimeout)
	defer cancel()
	rewrapped := map[string][]byte{} // kept over attempts, so that each has only the newest material to wrap
	for ctx.Err() == nil {
		var cluster fsm.Cluster
		var formed bool
		var keys []*kms.Key
		var pairs []fsm.ReplicationKey
		err := s.Store.View(func(tx *fsm.Tx) error {
			cluster, formed = tx.Cluster()
			pairs = tx.ReplicationKeys()
			tx.Keys("", "", func(k *kms.Key) bool {
				keys = append(keys, k)
				return true
			})
			return nil
		})
		switch {
		case err != nil:
			return 0, err
		case !formed:
			return 0, serving.ErrNotFormed
		case cluster.RootKeyID == to.ID():
			return 0, errors.New("the region's keys are under this root key already")
		}
		from := s.Keyring.Root(cluster.RootKeyID)
		if from == nil {
			return 0, serving.ErrSealed
		}
		command := &fsm.RotateRootKey{From: cluster.RootKeyID, To: to.ID(), Spec: spec}
		for _, k := range keys {
			if err := k.Rewrap(ctx, from, to, rewrapped); err != nil {
				return 0, err
			}
		}
		for _, p := range pairs {
			if rewrapped[string(p.Wrapped)] != nil {
				continue
			}
			raw, err := from.Unwrap(ctx, p.Wrapped, p.Binding())
			if err != nil {
				return 0, err
			}
			rewrapped[string(p.Wrapped)], err = to.Wrap(ctx, raw, p.Binding())
			clear(raw)
			if err != nil {
				return 0, err
			}
		}
		for old, anew := range rewrapped {
			command.Materials = append(command.Materials, fsm.RewrappedMaterial{Old: []byte(old), New: anew})
		}
		out, err := s.Propose(ctx, command)
		if err != nil {
			return 0, err
		}
		if err := out.Err(); !errors.Is(err, refusal.ErrConflict) {
			return len(keys), err
		}
	}
	return 0, errors.New("new keys kept being made: try again when fewer are")
}
