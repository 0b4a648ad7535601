package serving

import (
	"context"
	"errors"
	"io"
	"time"

	"coffer/cluster/quorum"
	"coffer/fsm"
	"coffer/iam"
	"coffer/kms/rootkey"
	"coffer/refusal"
)

// Cluster replicates commands and tells how fresh this node's state is.
type Cluster interface {
	Propose(ctx context.Context, command []byte) (fsm.Outcome, error)
	ReadBarrier(ctx context.Context) error
	StaleFor() time.Duration
	// KnowsRegion reports whether nodes of a region have been heard of.
	KnowsRegion(region string) bool
}

// Base gives a service its region.
type Base struct {
	Region  string
	Store   *fsm.Store
	Cluster Cluster
	Keyring *Keyring
	Now     func() time.Time
	Random  io.Reader
}

// New makes the base of a region's services on one node: the state, the cluster that replicates it, the keys that it is
// sealed under, and a clock and randomness, which tests replace.
func New(region string, store *fsm.Store, cluster Cluster, keyring *Keyring, now func() time.Time,
	random io.Reader) *Base {
	return &Base{Region: region, Store: store, Cluster: cluster, Keyring: keyring, Now: now, Random: random}
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
	return &UnavailableError{
		"No leader of the region could be reached, so this node can't know the latest state. Try again, or ask another node.",
		cause,
	}
}

func noMajority(cause error) error {
	return &UnavailableError{
		"The region can't take writes at the moment: no majority of its nodes answered in time. Whether this request was " +
			"carried out is not known; it is safe to send it again with the same ClientRequestToken.", cause,
	}
}

func halted(cause error) error {
	return &UnavailableError{
		"The region takes no writes at the moment, since its leader can't apply an entry of the log: an operator has to " +
			"act. Reads go on. Whether this request was carried out is not known; it is safe to send it again with the same " +
			"ClientRequestToken.", cause,
	}
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
	RequestID   []byte // 16 bytes; names the one command that the request may come to, here and in other regions
	Consistency Consistency
	Stale       bool          // answered without a leader's word
	StaleFor    time.Duration // how old the answer may be
}

type callKey struct{}

// WithCall hands call to the operation.
func WithCall(ctx context.Context, call *Call) context.Context {
	return context.WithValue(ctx, callKey{}, call)
}

// CallOf is the call that WithCall handed over.
func CallOf(ctx context.Context) *Call { return ctx.Value(callKey{}).(*Call) }

// View is a read transaction together with what operations need around it.
type View struct {
	*fsm.Tx
	*Base
	Account string // the caller's
	State   fsm.Cluster

	unwrapped map[material][]byte // by earlier calls of the same operation
	outside   []func(context.Context, rootkey.Provider) error
}

// errOutside ends a transaction that has to be begun again after something was done outside of it.
var errOutside = errors.New("something has to be done outside of the transaction first")

// Outside has do called with the root key after the transaction, and then the operation again: a root key can be
// far away, and nothing else moves while a transaction is open. The operation returns the error.
func (v *View) Outside(do func(context.Context, rootkey.Provider) error) error {
	v.outside = append(v.outside, do)
	return errOutside
}

// in calls do in a transaction: more than once where it asks for something to be done outside.
func (b *Base) in(transaction func(func(*fsm.Tx) error) error, ctx context.Context, do func(*View) error) error {
	unwrapped := map[material][]byte{}
	followed := false
	for {
		var v *View
		sealed := false
		err := transaction(func(tx *fsm.Tx) error {
			cluster, formed := tx.Cluster()
			if !formed {
				return ErrNotFormed
			}
			if _, err := b.Keyring.root(cluster); err != nil {
				sealed = true
				return err
			}
			v = &View{Tx: tx, Base: b, Account: CallOf(ctx).Principal.Account, State: cluster, unwrapped: unwrapped}
			return do(v)
		})
		if sealed && !followed && b.Keyring.follow != nil { // the root key may have been rotated just now
			b.Keyring.follow(ctx)
			followed = true
			continue
		}
		if v == nil || len(v.outside) == 0 {
			return err
		}
		root, err := b.Keyring.root(v.State)
		if err != nil {
			return err
		}
		for _, do := range v.outside {
			if err := do(ctx, root); err != nil {
				return &UnavailableError{
					"The region's root key can't be used: it can't be reached at the moment, or is not the right one.", err,
				}
			}
		}
	}
}

// Read calls do with a state as fresh as the call asks for, perhaps more than once.
func (b *Base) Read(ctx context.Context, do func(*View) error) error {
	if err := b.refresh(ctx); err != nil {
		return err
	}
	return b.in(b.Store.View, ctx, do)
}

// refresh waits until this node's state is as fresh as the call asks for, or marks the call's answer as stale.
func (b *Base) refresh(ctx context.Context) error {
	call := CallOf(ctx)
	if call.Consistency != Local {
		err := b.Cluster.ReadBarrier(ctx)
		switch {
		case errors.Is(err, quorum.ErrBehind):
			return &UnavailableError{
				"This node has not caught up with the region's leader, and would answer with old state. Try again, or ask " +
					"another node.", err,
			}
		case err != nil && call.Consistency == Strong:
			return noLeader(err)
		case err != nil:
			call.Stale, call.StaleFor = true, b.Cluster.StaleFor()
		}
	}
	return nil
}

// attempts bounds how often a write is decided anew because the state changed meanwhile.
const attempts = 5

// Write proposes the command that prepare makes. prepare first sees this node's state as it is, which may
// lag; whatever it then refuses, or finds done already, is decided again behind a read barrier. So is a
// command that the state machine refuses because the state was another one. No command means nothing to do.
func (b *Base) Write(ctx context.Context, prepare func(*View) (fsm.Command, error)) (fsm.Outcome, error) {
	// One id for all attempts, with the base from before the first: whichever of them is found in the log, late or
	// twice, at most one is carried out.
	id, base, err := b.newID(CallOf(ctx).RequestID)
	if err != nil {
		return fsm.Outcome{}, err
	}
	for attempt := range attempts {
		fresh := attempt > 0
		if fresh {
			if err := b.Cluster.ReadBarrier(ctx); err != nil {
				return fsm.Outcome{}, noLeader(err)
			}
		}
		var command fsm.Command
		err := b.in(b.Store.View, ctx, func(v *View) (err error) {
			command, err = prepare(v)
			return err
		})
		if err != nil && refusal.Of(err) == nil {
			return fsm.Outcome{}, err
		}
		if err != nil || command == nil {
			if fresh {
				return fsm.Outcome{}, err
			}
			continue
		}
		out, err := b.Cluster.Propose(ctx, fsm.Encode(id, base, command))
		switch {
		case errors.Is(err, quorum.ErrRefused):
			return out, err // a mistake of ours
		case errors.Is(err, quorum.ErrHalted):
			return out, halted(err)
		case err != nil:
			return out, noMajority(err)
		}
		if err := out.Err(); !errors.Is(err, refusal.ErrConflict) {
			return out, err
		}
	}
	return fsm.Outcome{}, &UnavailableError{
		Message: "Other requests kept changing what this one is about. Send the request again.",
	}
}

// Propose replicates a command under a new id.
func (b *Base) Propose(ctx context.Context, command fsm.Command) (fsm.Outcome, error) {
	id, base, err := b.newID(nil)
	if err != nil {
		return fsm.Outcome{}, err
	}
	return b.Cluster.Propose(ctx, fsm.Encode(id, base, command))
}

// newID makes a command's id, of a request's if it has one, and says what this node has applied at that moment.
func (b *Base) newID(request []byte) (id fsm.ID, base uint64, err error) {
	base = b.Store.Applied()
	if len(request) == fsm.IDLen {
		return fsm.ID(request), base, nil
	}
	_, err = io.ReadFull(b.Random, id[:])
	return id, base, err
}

// Millis is the time in milliseconds since 1970.
func (b *Base) Millis() int64 { return b.Now().UnixMilli() }

// Unsealed fails while this node can answer nothing: before there is a region, and while it is sealed.
func (b *Base) Unsealed(ctx context.Context) error {
	return b.in(b.Store.View, ctx, func(*View) error { return nil })
}

// Warm reports whether this node can unwrap the region's keys: it fails while the node is sealed.
func (b *Base) Warm(ctx context.Context) error {
	ctx = WithCall(ctx, &Call{})
	return b.in(b.Store.View, ctx, func(v *View) error {
		_, err := v.defaultMaterial()
		return err
	})
}

// KnownRegion reports whether a name is that of another region that this one can replicate to: nodes of it have been
// heard of, or it was replicated to before.
func (b *Base) KnownRegion(region string) bool {
	if region == b.Region || b.Cluster.KnowsRegion(region) {
		return region != b.Region
	}
	known := false
	_ = b.Store.View(func(tx *fsm.Tx) error { // a region that can't be looked up is not known
		known = tx.Peer(region).Public != nil
		return nil
	})
	return known
}
