// Package fsm is a region's replicated state: the commands that change it, the store that keeps it,
// and read transactions over it.
//
// Store is a raft.BatchingFSM over one bbolt file. What it applies is written there shortly after, in one
// transaction together with the Raft index that it reaches, so a restart opens the file and applies only
// what is newer. Apply is deterministic and is the only place where state changes: it decides
// uniqueness, label moves and conditions. Whatever is random or depends on a clock is decided before
// proposing and travels in the command.
//
// Disks lie. Every row carries a checksum bound to its key that every read verifies, every log entry
// carries one that Apply verifies, and the sum of all rows' checksums is the state's digest, which
// nodes compare at a common index. Damage ends the service of this node (ErrDamaged); it is never an answer.
package fsm
