// Package clocks decides whether a node's wall clock may be relied on for what can't be undone: purges, and the
// deletion of keys. A clock that jumps ahead would otherwise end every recovery window at once.
//
// A [Judge] knows two things. It compares the wall clock with the other voters' (Cristian's rule: the other's time
// came about at the middle of the question's way, give or take half of it), and with how much time has gone by for
// this process (CLOCK_MONOTONIC), since where all clocks follow one source they can all jump together. It reads no
// clock itself and calls nobody.
package clocks
