package fsm

import "coffer/rows"

// writeTx is the transaction of a batch: what commands are applied in.
type writeTx struct {
	Tx
	Writer *rows.Writer
	index  uint64 // of the entry being applied
	term   uint64 // of it
	placed uint64 // values added by it

	proposals  *proposals
	carriedOut []byte // by the entry: its row of tableProposals

	request []byte // id of the command that is being applied
	// What it did to the versions of its secret.
	added   []string
	removed bool
}

// atomically calls do: when it fails, nothing of what it wrote stays.
func (w *writeTx) atomically(do func() error) error {
	placed := w.placed
	err := w.Writer.Atomically(do)
	if err != nil {
		w.placed = placed
	}
	return err
}

func (w *writeTx) put(t table, key []byte, row rows.Row) { w.Writer.Put(t, key, row) }

// add is put for a key that has no row.
func (w *writeTx) add(t table, key []byte, row rows.Row) { w.Writer.Add(t, key, row) }

func (w *writeTx) remove(t table, key []byte) { w.Writer.Remove(t, key) }

// discard removes a row if it is there.
func (w *writeTx) discard(t table, key []byte) { w.Writer.Discard(t, key) }
