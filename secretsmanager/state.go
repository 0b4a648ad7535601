package secretsmanager

import (
	"context"
	"errors"

	"coffer/fsm"
	"coffer/iam"
	"coffer/refusal"
	"coffer/secret"
	"coffer/serving"
)

// State is a secret at one revision on its way to another region. Its values are in the clear: it exists in memory
// only, and leaves it sealed to the other region.
type State struct {
	Account     string           `cbor:"1,keyasint"`
	Name        string           `cbor:"2,keyasint"`
	Suffix      string           `cbor:"3,keyasint"`
	Description string           `cbor:"4,keyasint,omitempty"`
	Tags        []secret.Tag     `cbor:"5,keyasint,omitempty"`
	Tagged      bool             `cbor:"6,keyasint,omitempty"`
	Policy      string           `cbor:"7,keyasint,omitempty"`
	Created     int64            `cbor:"8,keyasint"`
	Changed     int64            `cbor:"9,keyasint"`
	Labels      secret.Labels    `cbor:"10,keyasint,omitempty"`
	Versions    []StateVersion   `cbor:"11,keyasint,omitempty"` // that the replica may lack
	Total       int              `cbor:"12,keyasint"`
	Full        bool             `cbor:"13,keyasint,omitempty"` // IDs lists all versions
	IDs         []string         `cbor:"14,keyasint,omitempty"`
	KeyID       string           `cbor:"15,keyasint,omitempty"`
	Overwrite   bool             `cbor:"16,keyasint,omitempty"`
	Origin      *secret.Origin   `cbor:"17,keyasint,omitempty"`
	HandOver    []secret.NewLink `cbor:"18,keyasint,omitempty"`
}

// StateVersion is a version with its value in the clear.
type StateVersion struct {
	ID      string `cbor:"1,keyasint"`
	Created int64  `cbor:"2,keyasint"`
	Binary  bool   `cbor:"3,keyasint,omitempty"`
	Content []byte `cbor:"4,keyasint"`
}

// Versions is a part of the versions without labels that follow a State.
type Versions struct {
	Account  string         `cbor:"1,keyasint"`
	Name     string         `cbor:"2,keyasint"`
	Suffix   string         `cbor:"3,keyasint"`
	Versions []StateVersion `cbor:"4,keyasint"`
	Total    int            `cbor:"5,keyasint"`
	Last     bool           `cbor:"6,keyasint,omitempty"`
}

// Export is what the outbox has for a region about one secret.
type Export struct {
	Link     string
	Ref      fsm.Ref
	Revision uint64
	Lag      secret.Lag
	ReadAt   int64 // milliseconds since 1970
	State    *State
	Rest     []string // versions without labels that are to follow
}

func (s *Service) internally(ctx context.Context, account string) context.Context {
	return serving.WithCall(ctx, &serving.Call{Principal: iam.Root(account), Consistency: serving.Local})
}

// Export reads what region lacks of the secret that an entry of the outbox is about, nil if it lacks nothing any
// more. It is refused when a value can't be decrypted at the moment; the export then says whose.
func (s *Service) Export(ctx context.Context, entry fsm.OutboxEntry) (out *Export, err error) {
	region := fsm.OutboxRegion(entry.Key)
	err = s.read(s.internally(ctx, entry.Ref.Account), func(v *view) error {
		out = nil
		current, waiting := v.OutboxAt(entry.Key)
		if !waiting {
			return nil
		}
		found := v.ByName(entry.Ref.Account, entry.Ref.Name)
		l := v.Link(region, found)
		out = &Export{Link: l.ID, Ref: refTo(found), Revision: found.Revision, Lag: *current.Lag, ReadAt: s.Millis()}
		send, err := v.exported(found, l, out)
		out.State.Versions = send
		return err
	})
	return out, err
}

// exported fills in what out holds besides values, and answers the versions that go with it.
func (v *view) exported(found *secret.Secret, l *secret.Link, out *Export) ([]StateVersion, error) {
	out.State = &State{
		Account: found.Account, Name: found.Name, Suffix: found.Suffix,
		Description: found.Description, Tags: found.Tags, Tagged: found.Tagged, Policy: found.Policy,
		Created: found.Created, Changed: found.Changed, Labels: found.Labels,
		Total: found.Versions, Full: l.Acked == 0 || out.Lag.Full != 0,
		KeyID: l.KeyID, Overwrite: l.Overwrite, Origin: found.Origin, HandOver: l.HandOver,
	}
	labelled := found.Labelled()
	if !out.State.Full {
		var ids []string
		for _, a := range out.Lag.Added {
			ids = append(ids, a.Version)
		}
		return v.exportVersions(found, ids)
	}
	if found.Versions == len(labelled) && l.Acked == 0 {
		out.State.IDs = labelled
		return v.exportVersions(found, labelled)
	}
	has := make(map[string]bool, len(labelled))
	for _, id := range labelled {
		has[id] = true
	}
	var ids []string
	v.Versions(found, "", func(version *secret.Version) bool {
		out.State.IDs = append(out.State.IDs, version.ID)
		switch {
		case l.Acked > 0 && version.Revision <= l.Acked:
		case has[version.ID]:
			ids = append(ids, version.ID)
		default:
			out.Rest = append(out.Rest, version.ID)
		}
		return true
	})
	return v.exportVersions(found, ids)
}

func (v *view) exportVersions(found *secret.Secret, ids []string) ([]StateVersion, error) {
	var out []StateVersion
	for _, id := range ids {
		version := v.Version(found, id)
		if version == nil {
			continue // removed since
		}
		value, err := v.open(v.arn(found), version, v.Value(found, version))
		if err != nil {
			return nil, err
		}
		out = append(out, StateVersion{id, version.Created, value.binary, value.content})
	}
	return out, nil
}

// exportBytes bounds the values of one part.
const exportBytes = 512 << 10

// ExportVersions reads as many of the versions ids of a secret as make up a part, and answers the others.
func (s *Service) ExportVersions(ctx context.Context, ref fsm.Ref,
	ids []string) (part *Versions, rest []string, err error) {
	err = s.read(s.internally(ctx, ref.Account), func(v *view) error {
		found := v.ByName(ref.Account, ref.Name)
		if found == nil || found.Suffix != ref.Suffix {
			return secret.ErrNotFound
		}
		part, rest = &Versions{Account: ref.Account, Name: ref.Name, Suffix: ref.Suffix, Total: found.Versions}, ids
		for size := 0; len(rest) > 0 && size < exportBytes; rest = rest[1:] {
			got, err := v.exportVersions(found, rest[:1])
			if err != nil {
				return err
			}
			for _, g := range got {
				size += len(g.Content)
			}
			part.Versions = append(part.Versions, got...)
		}
		part.Last = len(rest) == 0
		return nil
	})
	return part, rest, err
}

// Import brings the replica of a secret here to a state that another region sent, its values encrypted under keys of
// this region.
func (s *Service) Import(ctx context.Context, from fsm.Sender, link string, revision uint64,
	in *State) (*fsm.Received, error) {
	displace, err := s.id()
	if err != nil {
		return nil, err
	}
	out, err := s.write(s.internally(ctx, in.Account), func(v *view) (fsm.Command, error) {
		if in.Account != v.State.Account {
			return nil, refusal.Errorf(secret.KindInvalidRequest,
				"The region %s has secrets of account %s, and %s is of account %s: regions that replicate have the same root "+
					"credentials.", from.Region, in.Account, s.Region, v.State.Account)
		}
		keyID, err := v.replicaKey(from.Region, in)
		if err != nil {
			return nil, err
		}
		ref := fsm.Ref{Account: in.Account, Name: in.Name, Suffix: in.Suffix}
		command := &fsm.Receive{
			From: from, Ref: ref, At: s.Millis(), Link: link, Revision: revision,
			Description: in.Description, Tags: in.Tags, Tagged: in.Tagged, Policy: in.Policy,
			Created: in.Created, Changed: in.Changed, Labels: in.Labels,
			Total: in.Total, Full: in.Full, IDs: in.IDs,
			KeyID: keyID, Overwrite: in.Overwrite, Origin: in.Origin, HandOver: in.HandOver, Displace: displace,
		}
		command.Versions, err = v.received(keyID, secret.ARN(s.Region, in.Account, in.Name, in.Suffix), in.Versions)
		return command, err
	})
	if err != nil {
		return nil, err
	}
	return out.Received, nil
}

// replicaKey is the id of the KMS key that a state is to be encrypted under: the replica's own, or the one that the
// link asks for.
func (v *view) replicaKey(primary string, in *State) (string, error) {
	if old := v.ByName(in.Account, in.Name); old != nil && old.Suffix == in.Suffix &&
		(old.Primary == primary || in.Origin != nil) {
		_, err := v.usableKey(old.KeyID)
		return old.KeyID, err
	}
	id, err := v.namedKey(in.KeyID)
	if isEncryption(err) {
		return "", refusal.Errorf(secret.KindEncryption,
			"The KMS key %s can't be used in this region: it doesn't exist, is disabled, or is not for encryption.", in.KeyID)
	}
	return id, err
}

func isEncryption(err error) bool {
	return errors.Is(err, &refusal.Error{Kind: secret.KindEncryption})
}

// received seals versions under a key of this region.
func (v *view) received(keyID, arn string, versions []StateVersion) ([]fsm.ReceivedVersion, error) {
	key, err := v.usableKey(keyID)
	if err != nil {
		return nil, err
	}
	var out []fsm.ReceivedVersion
	for _, version := range versions {
		sealed, err := v.seal(key, arn, version.ID, plaintext{version.Content, version.Binary})
		if err != nil {
			return nil, err
		}
		out = append(out, fsm.ReceivedVersion{NewVersion: *sealed, Created: version.Created})
	}
	return out, nil
}

// ImportVersions adds versions without labels to a replica that has the state at revision.
func (s *Service) ImportVersions(ctx context.Context, from fsm.Sender, link string, revision uint64,
	in *Versions) (*fsm.Received, error) {
	out, err := s.write(s.internally(ctx, in.Account), func(v *view) (fsm.Command, error) {
		found := v.ByName(in.Account, in.Name)
		if found == nil || found.Suffix != in.Suffix {
			return nil, secret.ErrIncomplete
		}
		versions, err := v.received(found.KeyID, v.arn(found), in.Versions)
		return &fsm.ReceiveVersions{
			From: from, Ref: refTo(found), At: s.Millis(), Link: link, Revision: revision, Versions: versions, Total: in.Total,
			Last: in.Last,
		}, err
	})
	if err != nil {
		return nil, err
	}
	return out.Received, nil
}
