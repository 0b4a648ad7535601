// Package fsm is a region's replicated state: the commands that change it, the store that keeps it,
// and read transactions over it.
//
// [Store] is a raft.BatchingFSM on the storage engine of [coffer/rows]: what it applies is in memory at once and in
// one file shortly after, together with the Raft index that it reaches, so a restart opens the file and applies only
// what is newer. Apply is deterministic and is the only place where state changes: it decides uniqueness, label moves
// and conditions. Whatever is random or depends on a clock is decided before proposing and travels in the command.
//
// Each subject has its file: the commands that change it, how they are applied, and how it is read. command.go has what
// all commands travel in and the numbers of their kinds; tables.go has the tables.
//
// An entry that was damaged on its way, or a row that is not what was written, is damage and ends the service of this
// node ([ErrDamaged]). An entry that is what was proposed and can't be applied ends the applying and nothing else
// ([Store.Halted]): all nodes meet the same entry.
package fsm
