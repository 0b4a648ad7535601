// Package rows is a node's storage engine: checksummed rows keyed by table, in one bbolt file and in memory above it.
// It knows no subject: what a table holds, and what a change means, is for whoever registers it.
//
// What is applied stays in memory, in layers, until a flush writes it to the file in one transaction, together with the
// [Position] in the Raft log that it reaches. So the file always is a whole state with its index: a crash loses
// what was in memory, and Raft applies it again from its log, which is synced before anything is acknowledged.
//
// A transaction reads one picture: the file as of one bbolt transaction, and the layers above it. Pictures are
// immutable and are reached by one pointer, so a reader takes no lock that a writer takes, and whatever reads (a
// value, a list, a snapshot, a scrub) sees all that is applied, whether the disk takes writes or not.
//
// Disks lie. Every row carries a checksum bound to its place that every read verifies; the sum of all checksums is
// the state's digest, which a scrub and the nodes of a region compare. What checksums find is damage ([damage.Err])
// and never an answer. Rows that are whole and contradict each other are no damage but a mistake in the code
// ([ErrContradiction]).
package rows
