package fsm

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"coffer/kms"
	"coffer/secret"
)

// Bounds of what a command may carry, above anything that the APIs allow. What is above them could be stored and not be
// read again: rows and keys of snapshots are bounded.
const (
	maxText   = 4 * 32768 // bytes of a text; a key's policy is the longest, and its characters take up to four bytes
	maxBytes  = secret.MaxValue + 1<<10
	maxInKey  = 4 * 256 // bytes of what becomes part of a row's key
	maxVector = 1 << 16 // items of a list
	maxLinks  = 256     // links of a secret, and regions that succeed another
	maxSealed = 4 << 10 // bytes of a key, wrapped or public
)

// Check says why a command that can be decoded must not be put into the log; nil if it may. Nodes propose nothing of
// the kind; the leader checks nevertheless, since every node applies what is in the log, and all would stop there.
func Check(c Command) error {
	if err := check(reflect.ValueOf(c)); err != nil {
		return fmt.Errorf("a command of kind %d: %w", kindOf[reflect.TypeOf(c)], err)
	}
	return nil
}

// checked are types that know more about themselves than that their parts are bounded. Those of other rooms are among
// checks.
type checked interface{ check() error }

var checks = map[reflect.Type]func(any) error{
	reflect.TypeFor[secret.NewLink](): func(v any) error {
		l := v.(*secret.NewLink)
		return errors.Join(inKeys(l.ID, l.Region), short(l.KeyID))
	},
	reflect.TypeFor[kms.Key](): func(v any) error {
		k := v.(*kms.Key)
		return errors.Join(named(k.Account, k.ID), rotates(k))
	},
	reflect.TypeFor[kms.Material](): func(v any) error {
		m := v.(*kms.Material)
		return errors.Join(sealedKey(m.Wrapped), short(m.ID, m.Description))
	},
	reflect.TypeFor[secret.Tag](): func(v any) error { return short(v.(*secret.Tag).Key, v.(*secret.Tag).Value) },
	reflect.TypeFor[kms.Tag]():    func(v any) error { return short(v.(*kms.Tag).Key, v.(*kms.Tag).Value) },
}

// mostItems are the bounds of lists that are stored in one row; maxVector where there is none.
var mostItems = map[reflect.Type]int{
	reflect.TypeFor[secret.NewLink](): maxLinks,
	reflect.TypeFor[secret.Tag]():     secret.MaxTags,
	reflect.TypeFor[kms.Tag]():        kms.MaxTags,
}

// check walks a value. It calls what its parts know about themselves, and bounds all texts, bytes and lists.
func check(v reflect.Value) error {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return check(v.Elem())
	case reflect.Struct:
		return checkStruct(v)
	case reflect.String:
		if v.Len() > maxText {
			return fmt.Errorf("a text of %d bytes, where %d are the most", v.Len(), maxText)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			if v.Len() > maxBytes {
				return fmt.Errorf("%d bytes, where %d are the most", v.Len(), maxBytes)
			}
			return nil
		}
		if most := cmp.Or(mostItems[v.Type().Elem()], maxVector); v.Len() > most {
			return fmt.Errorf("a list of %d items, where %d are the most", v.Len(), most)
		}
		for i := range v.Len() {
			if err := check(v.Index(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkStruct(v reflect.Value) error {
	whole := v.Addr().Interface()
	if c, ok := whole.(checked); ok {
		if err := c.check(); err != nil {
			return err
		}
	}
	if do := checks[v.Type()]; do != nil {
		if err := do(whole); err != nil {
			return err
		}
	}
	for i := range v.NumField() {
		if err := check(v.Field(i)); err != nil {
			return err
		}
	}
	return nil
}

// inKeys checks texts that become parts of rows' keys, whose parts end with zero bytes.
func inKeys(texts ...string) error {
	for _, text := range texts {
		if text == "" || len(text) > maxInKey || strings.IndexByte(text, 0) >= 0 {
			return errors.New("an id or the name of a region, key or alias is missing or can't be one")
		}
	}
	return nil
}

// short checks texts of up to 256 characters.
func short(texts ...string) error {
	for _, text := range texts {
		if len(text) > maxInKey {
			return fmt.Errorf("a tag or label of %d bytes, where %d are the most", len(text), maxInKey)
		}
	}
	return nil
}

func sealedKey(keys ...[]byte) error {
	for _, key := range keys {
		if len(key) > maxSealed {
			return fmt.Errorf("a key of %d bytes, where %d are the most", len(key), maxSealed)
		}
	}
	return nil
}

// named checks an account and the id or name of something in it.
func named(account, id string) error {
	if !secret.ValidAccount(account) {
		return errors.New("wanted an account of 12 digits")
	}
	return inKeys(id)
}

// rotates checks what rotations of a key go by.
func rotates(k *kms.Key) error {
	switch {
	case k.Spec.MaterialLen() == 0:
		return errors.New("wanted a key's spec")
	case k.Current < 0 || k.Current >= max(1, len(k.Materials)):
		return errors.New("the current generation of a key's material is none that it has")
	case k.NextAt < 0 || (k.NextAt == 0) != (k.Period == 0):
		return errors.New("a key that rotates has a period and the time of the next rotation, another one neither")
	}
	return period(k.Period)
}

func period(days int) error {
	if days != 0 && (days < kms.MinPeriod || days > kms.MaxPeriod) {
		return fmt.Errorf("a period of %d days, wanted %d to %d, or 0 for none", days, kms.MinPeriod, kms.MaxPeriod)
	}
	return nil
}

// live checks the names of commands that make secrets under them: those of displaced secrets are the state machine's
// own.
func live(name string) error {
	if !secret.ValidName(name) {
		return errors.New("wanted the name of a secret")
	}
	return nil
}

func (c *SetKeyRotation) check() error { return period(c.Period) }

func (c *CreateSecret) check() error { return errors.Join(live(c.Ref.Name), short(c.KeyID)) }

func (r *Ref) check() error {
	named := secret.ValidName(r.Name) || secret.IsDisplacedKey(r.Name)
	if !named || !secret.ValidAccount(r.Account) || len(r.Suffix) != secret.SuffixLen {
		return errors.New("wanted a secret's account, name and suffix")
	}
	return nil
}

func (r *KeyRef) check() error { return named(r.Account, r.ID) }

func (v *NewVersion) check() error {
	if v.ID == "" || len(v.ID) > maxInKey { // tokens may have zero bytes: they end the keys that they are in
		return errors.New("the id of a version is missing or too long")
	}
	return short(v.KeyID)
}

func (c *InitCluster) check() error {
	return errors.Join(inKeys(c.Cluster.ID, c.Cluster.Region), named(c.Cluster.Account, c.Cluster.DefaultKeyID))
}

func (c *RaiseFormat) check() error { return Formats().Check(c.To) }

func (s *Sender) check() error { return inKeys(s.Region) }

func (n *Notice) check() error {
	if n.Kind == LinkMoved {
		return inKeys(n.Link, n.Primary, n.NewLink)
	}
	return inKeys(n.Link)
}

func (c *Receive) check() error {
	return errors.Join(inKeys(c.Link, c.Displace), live(c.Ref.Name), short(c.KeyID))
}

func (c *ReceiveVersions) check() error { return inKeys(c.Link) }

func (c *RestoreDisplaced) check() error {
	if c.As != nil {
		return errors.Join(named(c.Account, c.ID), live(c.As.Name))
	}
	return named(c.Account, c.ID)
}

func (c *HandOver) check() error { return inKeys(c.To) }

func (c *Settle) check() error { return inKeys(c.Region) }

func (c *Repair) check() error { return inKeys(c.Region) }

func (c *SetPeer) check() error { return errors.Join(inKeys(c.Region), sealedKey(c.Public)) }

func (c *SetSuccessors) check() error {
	if len(c.By) > maxLinks {
		return errors.New("too many regions")
	}
	return inKeys(slices.Concat(c.By, []string{c.Region})...)
}

func (k *ReplicationKey) check() error {
	return errors.Join(sealedKey(k.Public, k.Wrapped), short(k.ID))
}

func (m *RewrappedMaterial) check() error { return sealedKey(m.Old, m.New) }

func (c *PutVersion) check() error { return short(c.Labels...) }

func (c *MoveLabel) check() error { return short(c.Label) }

func (c *ReportPeer) check() error { return inKeys(c.Region) }

func (c *SetAlias) check() error { return inKeys(c.Name) }

func (c *DeleteAlias) check() error { return named(c.Account, c.Name) }
