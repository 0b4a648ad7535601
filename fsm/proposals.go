package fsm

import (
	"encoding/binary"
	"errors"

	"coffer/rows"
)

// A command whose fate its proposer does not know, since a leader was lost, is proposed again, and may then stand in
// the log more than once. It is carried out at most once: tableProposals has a row for each entry of the last Window
// that carried out something, with the ids of its commands, the checksums of their bytes and their outcomes. A command
// that stands there is answered with the outcome that it had. What was refused does not stand there: it changed
// nothing, and whoever proposed it may decide anew and propose something else under the same id.
//
// An envelope carries the index that its proposer had applied when it made the id: all entries with that id are behind
// it. So a command at most Window behind its base is carried out unless a row names it; one further behind could have
// been carried out by an entry whose row is gone, and is not carried out, whatever may have become of it. So is a
// command whose base is before the current epoch: the state in which its id might stand was replaced by an archive.

// Window is how many entries of the log rows are kept for: more than are applied while a proposal is tried. The leader
// has two entries under way (package cluster, batchesInFlight), and each takes two disks' syncs, one after the other,
// and a way there and back: no less than 0.25 ms, so 8,000 entries a second, and 36,000 in the 4.5 seconds after which
// a proposal is given up; longer where nodes are far apart, and then entries take longer too. If something is faster
// still, clients get "not known" where they could have had an answer.
const Window = 1 << 16

// IDLen is the length of a command's id: random bytes, drawn for it.
const IDLen = 16

// ID names a command. Proposed again, it keeps its id.
type ID [IDLen]byte

// ErrUnknownFate says that nobody can say whether a command was carried out, here or under its id before.
var ErrUnknownFate = errors.New("it is not known whether the command was carried out")

// proposals is what tableProposals says, for looking up ids. It is derived from the table when it is needed first, and
// kept up with it.
type proposals struct {
	at      map[ID]uint64 // index of the entry that carried it out
	entries []uint64      // that have a row, in order
	since   uint64        // base that a command must have reached
	begun   bool          // there is such a base: the state was formed, or its epoch begun, by an entry
}

// epochKey is the key of since's row. Keys of entries are longer, and sort before it.
var epochKey = []byte("epoch")

func entryKey(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }

// EpochBegun reports whether commands can be carried out: not after the state was restored from an archive, until
// BeginEpoch.
func (t *Tx) EpochBegun() bool {
	_, formed := t.Cluster()
	return !formed || t.Has(tableProposals, epochKey)
}

func (t *Tx) readProposals() *proposals {
	p := &proposals{at: map[ID]uint64{}}
	for key, payload := range t.Ascend(tableProposals, nil) {
		if len(key) == len(epochKey) {
			p.since, p.begun = binary.BigEndian.Uint64(payload), true
			continue
		}
		index := binary.BigEndian.Uint64(key)
		p.entries = append(p.entries, index)
		eachCarriedOut(key, payload, func(id ID, _ uint64, _ []byte) { p.at[id] = index })
	}
	return p
}

// A row is a sequence of: id, checksum of the command's bytes (8 bytes), length of the outcome (uvarint), outcome
// (CBOR; nothing if it is the zero Outcome).

func appendCarriedOut(row []byte, id ID, sum uint64, out Outcome) []byte {
	row = binary.BigEndian.AppendUint64(append(row, id[:]...), sum)
	var outcome []byte
	if !out.isZero() {
		outcome = marshal(out)
	}
	return append(binary.AppendUvarint(row, uint64(len(outcome))), outcome...)
}

func eachCarriedOut(key, row []byte, visit func(id ID, sum uint64, outcome []byte)) {
	for len(row) > 0 {
		const head = IDLen + 8
		n, length := uint64(0), 0
		if len(row) > head {
			n, length = binary.Uvarint(row[head:])
		}
		if length <= 0 || uint64(len(row)-head-length) < n {
			tableProposals.Contradicts(key, "can't be decoded")
		}
		outcome := row[head+length:]
		visit(ID(row), binary.BigEndian.Uint64(row[IDLen:]), outcome[:n])
		row = outcome[n:]
	}
}

// recall returns the outcome that a command had when it was carried out, false if it was not within the window. Another
// command that was carried out under its id makes its fate unknown.
func (w *writeTx) recall(id ID, sum uint64) (out Outcome, found bool) {
	index, found := w.proposals.at[id]
	if !found {
		return out, false
	}
	visit := func(key, row []byte) {
		eachCarriedOut(key, row, func(other ID, was uint64, outcome []byte) {
			switch {
			case other != id:
			case was != sum:
				out = Outcome{Unknown: "another command was carried out under its id"}
			case len(outcome) > 0:
				decode(tableProposals, key, outcome, &out)
			}
		})
	}
	key := entryKey(index)
	if index == w.index { // twice in one entry, whose row is not stored yet
		visit(key, w.carriedOut)
		return out, true
	}
	row := w.Get(tableProposals, key)
	if row == nil {
		tableProposals.Contradicts(key, "is missing")
	}
	visit(key, row)
	return out, true
}

// late says why a command that no row names must not be carried out; nothing if it may.
func (w *writeTx) late(base uint64, c Command) string {
	if !w.proposals.begun {
		if _, begins := c.(*BeginEpoch); begins {
			return "" // its base is the archive's, which says nothing about this log
		}
		if _, formed := w.Cluster(); formed {
			return "the state was restored from an archive, and its epoch has not begun"
		}
	}
	switch {
	case base >= w.index:
		return "it claims to have been made later than it was proposed"
	case w.index-base > Window:
		return "too many other commands came between its making and its entry in the log"
	case base < w.proposals.since:
		return "the state was restored from an archive after it was made"
	}
	return ""
}

// remember notes that the entry carried out a command.
func (w *writeTx) remember(id ID, sum uint64, out Outcome) {
	w.carriedOut = appendCarriedOut(w.carriedOut, id, sum, out)
	w.proposals.at[id] = w.index
}

// keepProposals stores what the entry carried out, and removes rows that the window has passed: at most two an entry,
// which adds one at most.
func (w *writeTx) keepProposals() {
	p := w.proposals
	if len(w.carriedOut) > 0 {
		w.add(tableProposals, entryKey(w.index), rows.NewRow(w.carriedOut))
		p.entries = append(p.entries, w.index)
	}
	for range 2 {
		if len(p.entries) == 0 || w.index-p.entries[0] <= Window {
			return
		}
		index := p.entries[0]
		p.entries = p.entries[1:]
		key := entryKey(index)
		eachCarriedOut(key, w.Get(tableProposals, key), func(id ID, _ uint64, _ []byte) {
			if p.at[id] == index {
				delete(p.at, id)
			}
		})
		w.remove(tableProposals, key)
	}
}

// beginProposals has commands be carried out only if their ids are made from now on.
func (w *writeTx) beginProposals(since uint64) {
	w.put(tableProposals, epochKey, rows.NewRow(binary.BigEndian.AppendUint64(nil, since)))
	w.proposals.since, w.proposals.begun = since, true
}
