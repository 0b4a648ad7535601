// Package readindex makes reads linearizable on every node of a region (docs/decisions/002-read-index.md). A node that
// is to read asks the leader how far it must have applied; the leader asks all voters for their terms before it answers
// ([quorum.Tally]), once for all reads that wait at a moment. Questions travel on connections of their own.
package readindex
