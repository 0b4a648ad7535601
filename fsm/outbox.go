package fsm

import (
	"bytes"

	"coffer/secret"
)

func lagKey(region string, s *secret.Secret) []byte {
	return append(append([]byte(region), 0, outboxState), secretKey(s.Account, s.Name)...)
}

// changed makes the links of s lag after a change that the command made. The caller stores s.
func (w *writeTx) changed(s *secret.Secret, at int64) {
	for _, region := range s.Replicas {
		w.lag(s, region, at, w.request, w.removed)
	}
}

// lag makes the link of s to region lag. full says that the versions that were added do not tell the difference.
func (w *writeTx) lag(s *secret.Secret, region string, at int64, request []byte, full bool) {
	key := lagKey(region, s)
	var l secret.Lag
	if !w.get(tableOutbox, key, &l) {
		l.Since = at
	}
	if request != nil {
		l.Request = request
	}
	if full || len(l.Added)+len(w.added) > secret.MaxAdded {
		l.Full, l.Added = s.Revision, nil
	} else {
		for _, version := range w.added {
			l.Added = append(l.Added, secret.Added{Version: version, Revision: s.Revision})
		}
	}
	w.put(tableOutbox, key, encode(&l))
}

// acknowledge takes from the lag of s what its replica in region has up to revision, as it was read at readAt.
func (w *writeTx) acknowledge(s *secret.Secret, region string, revision uint64, readAt int64) {
	key := lagKey(region, s)
	if revision >= s.Revision {
		w.discard(tableOutbox, key)
		return
	}
	var l secret.Lag
	if !w.get(tableOutbox, key, &l) {
		return
	}
	var left []secret.Added
	for _, a := range l.Added {
		if a.Revision > revision {
			left = append(left, a)
		}
	}
	l.Added, l.Since = left, max(l.Since, readAt)
	if l.Full <= revision {
		l.Full = 0
	}
	w.put(tableOutbox, key, encode(&l))
}

// OutboxEntry is something that a region has not acknowledged: a secret's state or a notice.
type OutboxEntry struct {
	Key    string // of the entry, for Outbox to go on after it
	Ref    Ref    // Suffix is empty for a state
	Lag    *secret.Lag
	Notice *Notice
}

// Outbox calls visit with what region has not acknowledged, behind the entry with the key after, until it returns
// false. Notices come first.
func (t *Tx) Outbox(region, after string, visit func(OutboxEntry) bool) {
	prefix := append([]byte(region), 0)
	from := prefix
	if after != "" {
		from = []byte(after)
	}
	for key, payload := range t.Ascend(tableOutbox, from) {
		if !bytes.HasPrefix(key, prefix) {
			return
		}
		if string(key) != after && !visit(decodeOutbox(key, payload)) {
			return
		}
	}
}

func decodeOutbox(key, payload []byte) OutboxEntry {
	e := OutboxEntry{Key: string(key)}
	_, rest, _ := bytes.Cut(key, []byte{0})
	if rest[0] == outboxNotice {
		e.Notice = new(Notice)
		decode(tableOutbox, key, payload, e.Notice)
		e.Ref = e.Notice.Ref
		return e
	}
	account, name, _ := bytes.Cut(rest[1:], []byte{0})
	e.Ref, e.Lag = Ref{Account: string(account), Name: string(name)}, new(secret.Lag)
	decode(tableOutbox, key, payload, e.Lag)
	return e
}

// OutboxAt is the entry with the key, false if it has been acknowledged.
func (t *Tx) OutboxAt(key string) (OutboxEntry, bool) {
	payload := t.Get(tableOutbox, []byte(key))
	if payload == nil {
		return OutboxEntry{}, false
	}
	return decodeOutbox([]byte(key), payload), true
}

// OutboxRegion is the region that an entry's key is for.
func OutboxRegion(key string) string {
	region, _, _ := bytes.Cut([]byte(key), []byte{0})
	return string(region)
}

// Lag is what region has not acknowledged of s, nil if it has everything.
func (t *Tx) Lag(region string, s *secret.Secret) *secret.Lag {
	var l secret.Lag
	if !t.get(tableOutbox, lagKey(region, s), &l) {
		return nil
	}
	return &l
}
