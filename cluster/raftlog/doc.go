// Package raftlog is what Raft must not lose on a node: its log, and the term and vote beside it.
//
// The log is raft-boltdb's with a checksum on every entry. Term, vote and what else has to survive are one small
// record in a file of its own, written in place, so that a full disk never refuses a term. Both tell damage from a
// disk that fails: what is not what was written fails with [damage.Err] and is told to OnDamage, once; after a write
// that failed nothing is read or tried again, and OnFatal ends the process; a write that does not end is told to
// OnHung. Only a disk that was full before the sync is an answer to Raft, which tries again later.
package raftlog
