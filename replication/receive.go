package replication

import (
	"context"
	"crypto/hpke"
	"errors"
	"net/http"

	"golang.org/x/sync/errgroup"

	"coffer/cluster"
	"coffer/fsm"
	"coffer/mistake"
	"coffer/refusal"
	"coffer/secret"
	sm "coffer/secretsmanager"
)

// Calls are what this node answers to nodes of other regions.
func (a *Agent) Calls() []cluster.Call {
	return []cluster.Call{
		{Pattern: "POST " + helloPath, Do: cluster.AnsweredRegion(a.welcome)},
		{Pattern: "POST " + sendPath, Do: cluster.AnsweredRegion(a.receive)},
		{Pattern: "POST " + comparePath, Do: cluster.AnsweredRegion(a.compared)},
	}
}

// welcome answers a greeting with the region's public key and epoch.
func (a *Agent) welcome(ctx context.Context, source string, in *hello) (*welcome, error) {
	pairs, state, err := a.keys.state()
	switch {
	case err != nil:
		return nil, err
	case len(pairs) == 0:
		return nil, errors.New("this region has no replication key yet")
	}
	a.noteReport(ctx, source, in.Report)
	w := &welcome{KeyID: pairs[0].ID, Public: pairs[0].Public, Epoch: state.Epoch}
	if in.KeyID != "" {
		err = a.keys.prove(ctx, in.KeyID, in.Challenge, source, a.base.Region, w)
	}
	return w, err
}

// How old a report becomes before another one replaces it, and before one that says the same does, in milliseconds.
const (
	reportRest = 1_000
	reportKept = 30_000
)

func (a *Agent) noteReport(ctx context.Context, source string, r fsm.Report) {
	var last fsm.Report
	if err := a.base.Store.View(func(tx *fsm.Tx) error {
		last = tx.Peer(source).Report
		return nil
	}); err != nil {
		return // damage is reported by the store
	}
	now := a.base.Millis()
	age := now - last.At
	r.At, last.At = 0, 0
	if age < reportRest || r == last && age < reportKept {
		return
	}
	r.At = now
	if _, err := a.base.Propose(ctx, &fsm.ReportPeer{Region: source, Report: r}); err != nil {
		a.log.Debug("a region's report could not be recorded", "from_region", source, "error", err)
	}
}

// receive opens a batch and brings each of its messages into this region.
func (a *Agent) receive(ctx context.Context, source string, b *batch) (*results, error) {
	key, err := a.keys.private(ctx, b.KeyID)
	if errors.Is(err, errUnknownKey) {
		return &results{UnknownKey: true}, nil
	} else if err != nil {
		return nil, err
	}
	recipient, err := hpke.NewRecipient(b.Enc, key, kdf, aead, b.info(source, a.base.Region))
	if err != nil {
		return nil, badBatch()
	}
	out := &results{Results: make([]result, len(b.Messages))}
	from := fsm.Sender{Region: source, Epoch: b.Epoch, Term: b.Term}
	var open [][]byte
	defer func() {
		for _, plain := range open {
			clear(plain)
		}
	}()
	for i := range b.Messages {
		m := &b.Messages[i]
		plain, err := recipient.Open(m.additional(), m.Sealed)
		if err != nil {
			return nil, badBatch()
		}
		open = append(open, plain)
	}
	var pending errgroup.Group
	pending.SetLimit(a.atOnce)
	for i := range b.Messages {
		out.Results[i] = result{Unavailable: true} // unless it is brought in
		pending.Go(func() error {
			_ = mistake.Catch(a.log, "a message of another region failed by a mistake in the code", func() error {
				out.Results[i] = a.bring(ctx, from, &b.Messages[i], open[i])
				return nil
			}, "from_region", from.Region)
			return nil
		})
	}
	return out, pending.Wait()
}

func badBatch() error {
	return &cluster.CallError{
		Status:  http.StatusBadRequest,
		Message: "the batch was not sealed by this region's peer for this region, or was altered",
	}
}

// bring carries out one message.
func (a *Agent) bring(ctx context.Context, from fsm.Sender, m *message, plain []byte) result {
	got, name, err := a.carryOut(ctx, from, m, plain)
	refused := refusal.Of(err)
	switch {
	case refused != nil:
		a.log.Info("a message of another region was refused", "from_region", from.Region, "secret", name, "link", m.Link,
			"revision", m.Revision, "request_id", requestID(m.Request), "reason", string(refused.Kind))
		return result{Refused: refused.Kind, Why: refused.Message}
	case err != nil:
		a.log.Warn("a message of another region can't be taken at the moment", "from_region", from.Region, "link", m.Link,
			"request_id", requestID(m.Request), "error", err)
		return result{Unavailable: true}
	}
	r := result{}
	if got != nil {
		r.Received = *got
	}
	if r.Displaced {
		a.log.Warn("a secret was displaced by a replica: `coffer displaced` lists and restores it", "from_region",
			from.Region, "secret", name)
	}
	a.log.Info("received", "from_region", from.Region, "secret", name, "link", m.Link, "revision",
		m.Revision, "request_id", requestID(m.Request))
	return r
}

var errNoMessage = refusal.New(secret.KindInvalidRequest,
	"The message can't be read: the sender's version of Coffer is a newer one.")

func (a *Agent) carryOut(ctx context.Context, from fsm.Sender, m *message,
	plain []byte) (*fsm.Received, string, error) {
	switch m.Kind {
	case stateMessage:
		var state sm.State
		if err := decoding.Unmarshal(plain, &state); err != nil {
			return nil, "", errNoMessage
		}
		defer clearVersions(state.Versions)
		got, err := a.secrets.Import(ctx, from, m.Link, m.Revision, &state)
		return got, state.Name, err
	case versionsMessage:
		var versions sm.Versions
		if err := decoding.Unmarshal(plain, &versions); err != nil {
			return nil, "", errNoMessage
		}
		defer clearVersions(versions.Versions)
		got, err := a.secrets.ImportVersions(ctx, from, m.Link, m.Revision, &versions)
		return got, versions.Name, err
	case noticeMessage:
		var notice fsm.Notice
		if err := decoding.Unmarshal(plain, &notice); err != nil || notice.Link != m.Link {
			return nil, "", errNoMessage
		}
		out, err := a.base.Propose(ctx, &fsm.ReceiveNotice{From: from, At: a.base.Millis(), Notice: notice})
		if err == nil {
			err = out.Err()
		}
		return nil, notice.Ref.Name, err
	}
	return nil, "", errNoMessage
}

func clearVersions(versions []sm.StateVersion) {
	for i := range versions {
		clear(versions[i].Content)
	}
}
