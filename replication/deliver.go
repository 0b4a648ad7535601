package replication

import (
	"context"
	"crypto/hpke"
	"encoding/hex"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"coffer/fsm"
	"coffer/refusal"
	"coffer/secret"
	sm "coffer/secretsmanager"
)

// parcel is one entry of the outbox on its way.
type parcel struct {
	key     string
	export  *sm.Export // nil for a notice
	notice  *fsm.Notice
	answer  *fsm.LinkAnswer // what is to be settled; nil if nothing was decided
	arrived bool            // a notice
}

// deliver sends the entries with the keys. What the region answers is settled soon after; until then the keys stay in
// flight, so that no secret is under way twice.
func (c *courier) deliver(ctx context.Context, keys []string) {
	parcels, epoch, err := c.pack(ctx, keys)
	if err != nil {
		c.log.Warn("what is to be replicated can't be read", "error", err)
		for _, key := range keys {
			c.postpone(key)
		}
	}
	left := map[string]bool{}
	for _, key := range keys {
		left[key] = true
	}
	for _, p := range parcels {
		if p.export != nil {
			defer clearVersions(p.export.State.Versions)
		}
	}
	for len(parcels) > 0 {
		n, content := 0, 0
		for n < len(parcels) && (n == 0 || content < batchContent) {
			content += parcels[n].content()
			n++
		}
		if !c.send(ctx, parcels[:n], epoch) {
			break
		}
		for _, p := range parcels[:n] {
			delete(left, p.key)
		}
		parcels = parcels[n:]
	}
	c.done(slices.Collect(maps.Keys(left)))
}

func (p *parcel) content() (bytes int) {
	if p.export != nil {
		for _, v := range p.export.State.Versions {
			bytes += len(v.Content)
		}
	}
	return bytes
}

// pack reads entries, and the epoch that they are of.
func (c *courier) pack(ctx context.Context, keys []string) (parcels []*parcel, epoch int64, err error) {
	if epoch, err = c.a.epoch(); err != nil {
		return nil, 0, err
	}
	var entries []fsm.OutboxEntry
	err = c.a.base.Store.View(func(tx *fsm.Tx) error {
		for _, key := range keys {
			if entry, waiting := tx.OutboxAt(key); waiting {
				entries = append(entries, entry)
			}
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	for _, entry := range entries {
		key := entry.Key
		if entry.Notice != nil {
			parcels = append(parcels, &parcel{key: key, notice: entry.Notice})
			continue
		}
		export, err := c.a.secrets.Export(ctx, entry)
		refused := refusal.Of(err)
		switch {
		case refused != nil:
			unreadable := result{Refused: refused.Kind, Why: "In " + c.a.base.Region + ": " + refused.Message}
			c.settle(ctx, []*parcel{{key: key, export: export, answer: answerOf(export, &unreadable)}})
		case err != nil:
			return nil, 0, err
		case export != nil:
			parcels = append(parcels, &parcel{key: key, export: export})
		}
	}
	if again, err := c.a.epoch(); err != nil || again != epoch {
		return nil, 0, errors.Join(err, errors.New("the region's state was restored meanwhile"))
	}
	return parcels, epoch, nil
}

func (a *Agent) epoch() (epoch int64, err error) {
	err = a.base.Store.View(func(tx *fsm.Tx) error {
		cluster, _ := tx.Cluster()
		epoch = cluster.Epoch
		return nil
	})
	return epoch, err
}

// send sends one batch, and what follows its states, and settles it. It reports whether the region answered.
func (c *courier) send(ctx context.Context, parcels []*parcel, epoch int64) bool {
	messages := make([]content, len(parcels))
	for i, p := range parcels {
		if p.notice != nil {
			messages[i] = content{message{Kind: noticeMessage, Link: p.notice.Link, Request: p.notice.Request}, p.notice}
		} else {
			messages[i] = content{
				message{Kind: stateMessage, Link: p.export.Link, Revision: p.export.Revision, Request: p.export.Lag.Request},
				p.export.State,
			}
		}
	}
	got, err := c.call(ctx, messages, epoch)
	if err != nil {
		c.fail(ctx, err)
		return false
	}
	for i, p := range parcels {
		r := &got[i]
		switch {
		case r.Unavailable:
		case p.notice != nil:
			p.arrived = r.Refused == "" || r.Refused == secret.KindEnded
		default:
			if r.Refused == "" && len(p.export.Rest) > 0 && r.Revision == 0 {
				if r, err = c.sendRest(ctx, p.export, epoch); err != nil {
					c.fail(ctx, err)
					return false
				}
			}
			if !r.Unavailable {
				p.answer = answerOf(p.export, r)
			}
		}
	}
	c.succeed(ctx)
	c.settleSoon(ctx, parcels)
	return true
}

// sendRest sends the versions without labels of a state that has arrived, in parts.
func (c *courier) sendRest(ctx context.Context, e *sm.Export, epoch int64) (*result, error) {
	for rest := e.Rest; ; {
		var part *sm.Versions
		var err error
		if part, rest, err = c.a.secrets.ExportVersions(ctx, e.Ref, rest); err != nil {
			return &result{Refused: secret.KindIncomplete, Why: err.Error()}, nil
		}
		part.Total = e.State.Total
		got, err := c.call(ctx,
			[]content{{message{Kind: versionsMessage, Link: e.Link, Revision: e.Revision, Request: e.Lag.Request}, part}}, epoch)
		if err != nil || part.Last || got[0].Refused != "" || got[0].Unavailable {
			if err != nil {
				return nil, err
			}
			return &got[0], nil
		}
	}
}

// content is a message with what is to be sealed in it.
type content struct {
	message
	of any
}

var errUnanswered = errors.New("the region did not answer each message")

// call seals messages in their order, sends them and answers the region's results.
func (c *courier) call(ctx context.Context, contents []content, epoch int64) ([]result, error) {
	c.mu.Lock()
	b := &batch{Epoch: epoch, Term: c.term, KeyID: c.keyID}
	key := c.key
	c.mu.Unlock()
	if key == nil {
		return nil, errUnknownKey // another batch was told so
	}
	var sender *hpke.Sender
	var err error
	if b.Enc, sender, err = hpke.NewSender(key, kdf, aead, b.info(c.a.base.Region, c.region)); err != nil {
		return nil, err
	}
	for _, m := range contents {
		plain, err := encoding.Marshal(m.of)
		if err != nil {
			return nil, err
		}
		m.Sealed, err = sender.Seal(m.additional(), plain)
		clear(plain)
		if err != nil {
			return nil, err
		}
		b.Messages = append(b.Messages, m.message)
	}
	var answer results
	if err := c.a.cluster.CallRegion(ctx, c.region, sendPath, callTimeout, b, &answer); err != nil {
		return nil, err
	}
	if answer.UnknownKey {
		c.mu.Lock()
		c.key = nil // ask for it
		c.mu.Unlock()
		return nil, errUnknownKey
	}
	if len(answer.Results) != len(contents) {
		return nil, errUnanswered
	}
	return answer.Results, nil
}

func answerOf(e *sm.Export, r *result) *fsm.LinkAnswer {
	return &fsm.LinkAnswer{
		Ref: e.Ref, Link: e.Link, ReadAt: e.ReadAt, Revision: r.Revision, KeyID: r.KeyID, AccessedDay: r.AccessedDay,
		TookOver: r.TookOver, Refused: r.Refused, Why: r.Why,
	}
}

// settleTime is how long answers gather until they are recorded together: each record is an entry of the log, which
// writes of clients wait behind.
const settleTime = 10 * time.Millisecond

// settleSoon settles parcels together with those of other batches, and ends their flight.
func (c *courier) settleSoon(ctx context.Context, parcels []*parcel) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := len(c.answered) == 0
	c.answered = append(c.answered, parcels...)
	if !first {
		return
	}
	c.begin(func() {
		c.rest(ctx, settleTime)
		c.settleAnswered(ctx)
	})
}

func (c *courier) settleAnswered(ctx context.Context) {
	c.mu.Lock()
	parcels := c.answered
	c.answered = nil
	c.mu.Unlock()
	c.settle(ctx, parcels)
	keys := make([]string, len(parcels))
	for i, p := range parcels {
		keys[i] = p.key
	}
	c.done(keys)
}

// settle records what the region answered.
func (c *courier) settle(ctx context.Context, parcels []*parcel) {
	command := &fsm.Settle{Region: c.region, At: c.a.base.Millis()}
	for _, p := range parcels {
		switch {
		case p.arrived:
			command.Notices = append(command.Notices, p.notice.Link)
		case p.answer != nil && (p.answer.Refused != "" || p.answer.Revision != 0):
			command.Answers = append(command.Answers, *p.answer)
		default:
			c.postpone(p.key)
		}
	}
	if len(command.Answers)+len(command.Notices) == 0 {
		return
	}
	if _, err := c.a.base.Propose(ctx, command); err != nil {
		c.log.Debug("acknowledgements could not be recorded; everything is sent again", "error", err)
		return
	}
	for _, p := range parcels {
		c.tell(p)
	}
}

// tell notes what came of a parcel, in the log and in the metrics.
func (c *courier) tell(p *parcel) {
	switch {
	case p.arrived:
		c.accepted(p.key)
		c.a.metrics.sent(c.region)
	case p.answer == nil:
	case p.answer.Refused != "":
		c.postpone(p.key)
		c.a.metrics.failed(c.region, string(p.answer.Refused))
		level := slog.LevelWarn
		if p.answer.Refused == secret.KindIncomplete || p.answer.Refused == secret.KindStale {
			level = slog.LevelInfo
		}
		c.log.Log(context.Background(), level, "a state was refused", "secret", p.answer.Ref.Name, "link", p.answer.Link,
			"request_id", requestID(p.export.Lag.Request), "reason", string(p.answer.Refused), "message", p.answer.Why)
	case p.answer.Revision != 0:
		c.accepted(p.key)
		c.a.metrics.sent(c.region)
		c.log.Info("replicated", "secret", p.answer.Ref.Name, "link", p.answer.Link, "revision", p.answer.Revision,
			"request_id", requestID(p.export.Lag.Request), "ms", c.a.base.Millis()-p.export.Lag.Since)
	}
}

// requestID is the id of a request as the access log has it.
func requestID(b []byte) string {
	if id, err := uuid.FromBytes(b); err == nil {
		return id.String()
	}
	return hex.EncodeToString(b)
}
