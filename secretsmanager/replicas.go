package secretsmanager

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/google/uuid"

	"coffer/fsm"
	"coffer/kms"
	"coffer/secret"
)

// ReplicaRegion is a member of AddReplicaRegions.
type ReplicaRegion struct {
	Region   *string `json:"Region"`
	KmsKeyID *string `json:"KmsKeyId"`
}

// ReplicationStatus says how far a replica region is.
type ReplicationStatus struct {
	Region           string `json:"Region"`
	KmsKeyID         string `json:"KmsKeyId,omitempty"`
	Status           string `json:"Status"`
	StatusMessage    string `json:"StatusMessage,omitempty"`
	LastAccessedDate Time   `json:"LastAccessedDate,omitzero"`
}

// The statuses.
const (
	inSync     = "InSync"
	inProgress = "InProgress"
	failed     = "Failed"
)

var regionPattern = regexp.MustCompile(`^([a-z]+-)+\d+$`)

func (c *checks) region(member string, region *string) {
	c.Length(member, region, 1, 128)
	if region != nil && *region != "" && !regionPattern.MatchString(*region) {
		c.Fail(member, *region, `Member must satisfy regular expression pattern: ^([a-z]+-)+\d+$`)
	}
}

func (c *checks) replicaRegions(regions []ReplicaRegion) {
	for i := range regions {
		c.region("AddReplicaRegions", regions[i].Region)
		c.Length("AddReplicaRegions", regions[i].KmsKeyID, 0, 2048)
	}
}

// newLinks are links to regions, each of which must be another one that is known here.
func (s *Service) newLinks(regions []ReplicaRegion, overwrite bool) ([]secret.NewLink, error) {
	var links []secret.NewLink
	for _, r := range regions {
		region := deref(r.Region)
		if region == s.Region || slices.ContainsFunc(links, func(l secret.NewLink) bool {
			return l.Region == region
		}) || !s.KnownRegion(region) {
			return nil, secret.ErrReplicaRegion
		}
		id, err := uuid.NewRandomFromReader(s.Random)
		if err != nil {
			return nil, err
		}
		links = append(links, secret.NewLink{ID: id.String(), Region: region, KeyID: deref(r.KmsKeyID), Overwrite: overwrite})
	}
	return links, nil
}

// started is the status of links that were just made.
func started(links []secret.NewLink) (out []ReplicationStatus) {
	for _, l := range links {
		out = append(out, ReplicationStatus{Region: l.Region, KmsKeyID: l.KeyID, Status: inProgress})
	}
	return out
}

// replicationStatus tells the status of each link of s. A link with nothing to send is in sync, though its region may
// not be reachable at the moment.
func (v *view) replicationStatus(s *secret.Secret) (out []ReplicationStatus) {
	for _, region := range s.Replicas {
		l := v.Link(region, s)
		if l == nil {
			continue
		}
		status := ReplicationStatus{Region: region, KmsKeyID: l.KeyID, Status: inSync, LastAccessedDate: day(l.AccessedDay)}
		if _, err := uuid.Parse(l.KeyID); err == nil { // the replica region has told its key's id
			status.KmsKeyID = kms.KeyARN(region, s.Account, l.KeyID)
		}
		if v.Lag(region, s) != nil {
			status.Status = inProgress
			switch peer := v.Peer(region); {
			case l.Failed != "":
				status.Status, status.StatusMessage = failed, l.Failed
			case peer.Down != 0:
				since := time.UnixMilli(peer.Down).UTC().Format(time.RFC3339)
				status.Status, status.StatusMessage = failed,
					fmt.Sprintf("The region %s can't be replicated to since %s: %s", region, since, peer.Why)
			}
		}
		out = append(out, status)
	}
	return out
}

// ReplicationOutput is the answer of operations on a secret's replication.
type ReplicationOutput struct {
	ARN               string              `json:"ARN"`
	ReplicationStatus []ReplicationStatus `json:"ReplicationStatus,omitempty"`
}

// ReplicateSecretToRegionsInput is the input of ReplicateSecretToRegions.
type ReplicateSecretToRegionsInput struct {
	SecretID                    *string         `json:"SecretId"`
	AddReplicaRegions           []ReplicaRegion `json:"AddReplicaRegions"`
	ForceOverwriteReplicaSecret *bool           `json:"ForceOverwriteReplicaSecret"`
}

// ReplicateSecretToRegions replicates a secret to more regions. A replication that failed is tried again, with the
// overwriting that is asked for now.
func (s *Service) ReplicateSecretToRegions(ctx context.Context,
	in *ReplicateSecretToRegionsInput) (*ReplicationOutput, error) {
	var c checks
	c.secretID(in.SecretID)
	c.Required("AddReplicaRegions", in.AddReplicaRegions != nil)
	if in.AddReplicaRegions != nil {
		c.Count("AddReplicaRegions", len(in.AddReplicaRegions), 1, 1<<20)
	}
	c.replicaRegions(in.AddReplicaRegions)
	if err := c.Err(); err != nil {
		return nil, err
	}
	links, err := s.newLinks(in.AddReplicaRegions, isTrue(in.ForceOverwriteReplicaSecret))
	if err != nil {
		return nil, err
	}
	return s.relink(ctx, *in.SecretID, func(found *secret.Secret) fsm.Command {
		return &fsm.AddLinks{Ref: refTo(found), At: s.Millis(), Links: links}
	})
}

// RemoveRegionsFromReplicationInput is the input of RemoveRegionsFromReplication.
type RemoveRegionsFromReplicationInput struct {
	SecretID             *string  `json:"SecretId"`
	RemoveReplicaRegions []string `json:"RemoveReplicaRegions"`
}

// RemoveRegionsFromReplication ends the replication to regions; the replicas there are deleted.
func (s *Service) RemoveRegionsFromReplication(ctx context.Context,
	in *RemoveRegionsFromReplicationInput) (*ReplicationOutput, error) {
	var c checks
	c.secretID(in.SecretID)
	c.Required("RemoveReplicaRegions", in.RemoveReplicaRegions != nil)
	if in.RemoveReplicaRegions != nil {
		c.Count("RemoveReplicaRegions", len(in.RemoveReplicaRegions), 1, 1<<20)
	}
	for i := range in.RemoveReplicaRegions {
		c.region("RemoveReplicaRegions", &in.RemoveReplicaRegions[i])
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	regions := slices.Compact(slices.Sorted(slices.Values(in.RemoveReplicaRegions)))
	return s.relink(ctx, *in.SecretID, func(found *secret.Secret) fsm.Command {
		return &fsm.RemoveLinks{Ref: refTo(found), At: s.Millis(), Regions: regions}
	})
}

// relink proposes a change of a secret's links and answers what they are then.
func (s *Service) relink(ctx context.Context, id string,
	command func(*secret.Secret) fsm.Command) (*ReplicationOutput, error) {
	named, err := s.change(ctx, id, false, func(found *secret.Secret) (fsm.Command, error) { return command(found), nil })
	if err != nil {
		return nil, err
	}
	out := &ReplicationOutput{ARN: named.ARN}
	err = s.read(ctx, func(v *view) error {
		found, err := v.find(named.ARN, true)
		if err == nil {
			out.ReplicationStatus = v.replicationStatus(found)
		}
		return err
	})
	return out, err
}

// ARNOutput is the answer of StopReplicationToReplica.
type ARNOutput struct {
	ARN string `json:"ARN"`
}

// StopReplicationToReplica makes a replica a standalone secret. It takes nothing from its old primary any more.
func (s *Service) StopReplicationToReplica(ctx context.Context, in *SecretIDInput) (*ARNOutput, error) {
	var c checks
	c.secretID(in.SecretID)
	if err := c.Err(); err != nil {
		return nil, err
	}
	out := &ARNOutput{}
	_, err := s.write(ctx, func(v *view) (fsm.Command, error) {
		found, err := v.find(*in.SecretID, false)
		if err != nil {
			return nil, err
		}
		out.ARN = v.arn(found)
		if found.Primary == "" {
			return nil, secret.ErrNotReplica
		}
		return &fsm.Promote{Ref: refTo(found), At: s.Millis()}, nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
