package fsm

import "fmt"

// Panicking is a command of the next version with a mistake in it: applying it panics after it has written something.
type Panicking struct {
	Key string `cbor:"1,keyasint"`
}

func (c *Panicking) apply(w *writeTx) (Outcome, error) {
	w.put(tableEnded, []byte(c.Key), encode(1))
	var none *Peer
	return Outcome{Count: len(none.Why)}, nil
}

// Contradicting is one that removes what is not there.
type Contradicting struct{}

func (c *Contradicting) apply(w *writeTx) (Outcome, error) {
	w.remove(tableEnded, []byte("nobody"))
	return Outcome{}, nil
}

// Telling is one that panics with what it carries.
type Telling struct {
	Value string `cbor:"1,keyasint"`
}

func (c *Telling) apply(*writeTx) (Outcome, error) {
	panic(fmt.Errorf("wanted another value than %q", c.Value))
}

// Waiting is one that waits while it is applied: it says so on Entered, and goes on when Leave is closed.
type Waiting struct{}

// Of Waiting.
var Entered, Leave = make(chan bool), make(chan bool)

func (c *Waiting) apply(*writeTx) (Outcome, error) {
	Entered <- true
	<-Leave
	return Outcome{}, nil
}

// WithMistakes makes commands with mistakes known until the returned function is called.
func WithMistakes() (without func()) {
	kinds[900] = func() Command { return &Panicking{} }
	kinds[901] = func() Command { return &Contradicting{} }
	kinds[902] = func() Command { return &Telling{} }
	kinds[903] = func() Command { return &Waiting{} }
	return func() {
		for kind := Kind(900); kind <= 903; kind++ {
			delete(kinds, kind)
		}
	}
}

// EncodeMistakes encodes them.
func EncodeMistakes(c Command) []byte {
	kind := Kind(900)
	switch c.(type) {
	case *Contradicting:
		kind = 901
	case *Telling:
		kind = 902
	case *Waiting:
		kind = 903
	}
	return encodeAs(kind, ID{}, 0, c)
}

// AllTables are the tables of a snapshot.
var AllTables = allTables

// Commands returns one zero command of every kind.
func Commands() (all []Command) {
	for _, make := range kinds {
		all = append(all, make())
	}
	return all
}
