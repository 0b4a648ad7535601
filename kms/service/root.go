package service

import (
	"context"
	"errors"
	"time"

	"coffer/fsm"
	"coffer/kms"
	"coffer/kms/rootkey"
	"coffer/serving"
)

// rotateTimeout bounds how long a rotation of the root key is tried while new key material is made.
const rotateTimeout = time.Minute

// RotateRoot puts all KMS keys of the region under another root key, in one replicated step. spec says how nodes
// reach it. It answers how many keys there are.
func (s *Service) RotateRoot(ctx context.Context, to rootkey.Provider, spec string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, rotateTimeout)
	defer cancel()
	rewrapped := map[string][]byte{} // kept over attempts, so that each has only the newest material to wrap
	for ctx.Err() == nil {
		var cluster fsm.Cluster
		var formed bool
		var keys []*kms.Key
		err := s.Store.View(func(tx *fsm.Tx) error {
			cluster, formed = tx.Cluster()
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
		for old, anew := range rewrapped {
			command.Materials = append(command.Materials, fsm.RewrappedMaterial{Old: []byte(old), New: anew})
		}
		out, err := s.Propose(ctx, command)
		if err != nil {
			return 0, err
		}
		if err := out.Err(); !errors.Is(err, kms.ErrConflict) {
			return len(keys), err
		}
	}
	return 0, errors.New("new keys kept being made: try again when fewer are")
}
