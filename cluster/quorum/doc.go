// Package quorum is what can be said of majorities without knowing how they are reached: the errors of reads and writes
// that need one. It imports no Raft, so that rooms above can tell these errors apart without it.
package quorum
