// Package secretsmanager is the Secrets Manager API: one method for each operation, which checks its
// input, reads the region's state or proposes a command, and encrypts or decrypts on the way.
//
// Reads see every acknowledged write (a read barrier) unless the caller asks otherwise or no leader can
// be reached. Writes are decided in the state machine; a method prepares its command from what this node
// knows, and decides again behind a read barrier before it refuses anything.
package secretsmanager
