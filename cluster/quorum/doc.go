// Package quorum is what can be said of majorities without knowing how they are reached: who counts, what a round of
// questions shows, and the errors of reads and writes that need one. It does no I/O, reads no clock and imports no
// Raft.
package quorum
