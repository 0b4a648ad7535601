package secretsmanager

import (
	"context"
	"errors"
	"io"
	"time"

	"coffer/fsm"
	"coffer/iam"
	"coffer/kms"
	"coffer/kms/rootkey"
	"coffer/secret"
)

// Cluster replicates commands and tells how fresh this node's state is.
type Cluster interface {
	Propose(ctx context.Context, command []byte) (fsm.Outcome, error)
	ReadBarrier(ctx context.Context) error
	LastContact() time.Duration
}

// Config of a Service.
type Config struct {
	Region  string
	Store   *fsm.Store
	Cluster Cluster
	Root    rootkey.Provider
	Now     func() time.Time
	Random  io.Reader
}

// Service carries out operations. Each takes the caller and the wanted consistency from its context (WithCall).
type Service struct {
	region  string
	store   *fsm.Store
	cluster Cluster
	keys    *keyring
	access  *accessLog
	tokens  *pageTokens
	now     func() time.Time
	random  io.Reader
}

// New makes a Service.
func New(c Config) *Service {
	keys := newKeyring(c.Root)
	return &Service{
		region: c.Region, store: c.Store, cluster: c.Cluster, now: c.Now, random: c.Random,
		keys: keys, access: newAccessLog(), tokens: &pageTokens{keys: keys},
	}
}

// UnavailableError says that the node can't answer at the moment. Clients see the message, logs the cause too.
type UnavailableError struct {
	Message string
	Cause   error
}

func (e *UnavailableError) Error() string {
	if e.Cause == nil {
		return e.Message
	}
	return e.Message + " (" + e.Cause.Error() + ")"
}

// Unwrap is the cause.
func (e *UnavailableError) Unwrap() error { return e.Cause }

// ErrNotFormed says that the cluster has no state yet.
var ErrNotFormed = &UnavailableError{Message: "This node's cluster is not formed yet."}

func noLeader(cause error) error {
	return &UnavailableError{"No leader of the region could be reached, so this node can't know the latest state. Try again, or ask another node.", cause}
}

func noMajority(cause error) error {
	return &UnavailableError{"The region can't take writes at the moment: no majority of its nodes answered in time. Whether this request was carried out is not known; it is safe to send it again with the same ClientRequestToken.", cause}
}

// Consistency is what a read asks of the node that answers it.
type Consistency int

// The consistencies.
const (
	Default Consistency = iota // linearizable; what is here when no leader can be reached
	Strong                     // linearizable or refused
	Local                      // what is here
)

// Call is who calls, and how a read was answered.
type Call struct {
	Principal   iam.Principal
	Consistency Consistency
	Stale       bool          // answered without a leader's word
	StaleFor    time.Duration // since the last contact with a leader
}

type callKey struct{}

// WithCall hands call to the operation.
func WithCall(ctx context.Context, call *Call) context.Context {
	return context.WithValue(ctx, callKey{}, call)
}

func callOf(ctx context.Context) *Call { return ctx.Value(callKey{}).(*Call) }

// view is a read transaction together with what the operations need around it.
type view struct {
	*fsm.Tx
	s       *Service
	ctx     context.Context
	account string
	cluster fsm.Cluster
}

func (s *Service) view(ctx context.Context, do func(*view) error) error {
	return s.in(s.store.View, ctx, do)
}

func (s *Service) in(transaction func(func(*fsm.Tx) error) error, ctx context.Context, do func(*view) error) error {
	return transaction(func(tx *fsm.Tx) error {
		cluster, formed := tx.Cluster()
		if !formed {
			return ErrNotFormed
		}
		return do(&view{tx, s, ctx, callOf(ctx).Principal.Account, cluster})
	})
}

// read calls do with a state as fresh as the call asks for.
func (s *Service) read(ctx context.Context, do func(*view) error) error {
	if err := s.refresh(ctx); err != nil {
		return err
	}
	return s.view(ctx, do)
}

// scan is read for walking the secrets.
func (s *Service) scan(ctx context.Context, do func(*view) error) error {
	if err := s.refresh(ctx); err != nil {
		return err
	}
	return s.in(s.store.Scan, ctx, do)
}

// refresh waits until this node's state is as fresh as the call asks for, or marks the call's answer as stale.
func (s *Service) refresh(ctx context.Context) error {
	call := callOf(ctx)
	if call.Consistency != Local {
		if err := s.cluster.ReadBarrier(ctx); err != nil {
			if call.Consistency == Strong {
				return noLeader(err)
			}
			call.Stale, call.StaleFor = true, s.cluster.LastContact()
		}
	}
	return nil
}

// attempts bounds how often a write is decided anew because the secret changed meanwhile.
const attempts = 5

// write proposes the command that prepare makes. prepare first sees this node's state as it is, which may
// lag; whatever it then refuses, or finds done already, is decided again behind a read barrier. So is a
// command that the state machine refuses because the state was another one. No command means nothing to do.
func (s *Service) write(ctx context.Context, prepare func(*view) (fsm.Command, error)) (fsm.Outcome, error) {
	for attempt := range attempts {
		fresh := attempt > 0
		if fresh {
			if err := s.cluster.ReadBarrier(ctx); err != nil {
				return fsm.Outcome{}, noLeader(err)
			}
		}
		var command fsm.Command
		err := s.view(ctx, func(v *view) (err error) {
			command, err = prepare(v)
			return err
		})
		var refused *secret.Error
		if err != nil && !errors.As(err, &refused) {
			return fsm.Outcome{}, err
		}
		if err != nil || command == nil {
			if fresh {
				return fsm.Outcome{}, err
			}
			continue
		}
		out, err := s.propose(ctx, command)
		if err != nil {
			return out, noMajority(err)
		}
		if err := out.Err(); !errors.Is(err, secret.ErrConflict) {
			return out, err
		}
	}
	return fsm.Outcome{}, &UnavailableError{Message: "Other requests kept changing the secret. Send the request again."}
}

// propose replicates a command under a new id.
func (s *Service) propose(ctx context.Context, command fsm.Command) (fsm.Outcome, error) {
	id := make([]byte, 16)
	if _, err := io.ReadFull(s.random, id); err != nil {
		return fsm.Outcome{}, err
	}
	return s.cluster.Propose(ctx, fsm.Encode(id, command))
}

// find is the secret that id means. One scheduled for deletion is refused unless scheduled is true.
func (v *view) find(id string, scheduled bool) (*secret.Secret, error) {
	parsed, err := secret.ParseID(id)
	if err != nil {
		return nil, err
	}
	if parsed.Region != "" && (parsed.Region != v.s.region || parsed.Account != v.account) {
		return nil, secret.ErrNotFound
	}
	found := v.Find(v.account, parsed)
	switch {
	case found == nil:
		return nil, secret.ErrNotFound
	case found.Deleted != 0 && !scheduled:
		return nil, secret.ErrMarkedForDeletion
	}
	return found, nil
}

func (v *view) arn(s *secret.Secret) string { return s.ARN(v.s.region) }

func refTo(s *secret.Secret) fsm.Ref {
	return fsm.Ref{Account: s.Account, Name: s.Name, Suffix: s.Suffix}
}

func (s *Service) millis() int64 { return s.now().UnixMilli() }

const millisPerDay = 24 * 60 * 60 * 1000

// Warm reports whether the region's key can be unwrapped with this node's root key.
func (s *Service) Warm(ctx context.Context) error {
	return s.store.View(func(tx *fsm.Tx) error {
		cluster, formed := tx.Cluster()
		if !formed {
			return ErrNotFormed
		}
		_, err := s.keys.material(ctx, tx, cluster.Account, kms.Header{KeyID: cluster.DefaultKeyID})
		return err
	})
}
