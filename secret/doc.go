// Package secret is the pure core of the Secrets Manager API: what a secret is, which names and
// staging labels it may have, how labels move between versions, what a list filter matches.
//
// It does no I/O and reads no clock; time and randomness are handed in. Every rule here is decided
// inside the replicated state machine (package fsm), so that two racing requests can never both win.
// The source of the rules is the AWS Secrets Manager API reference and user guide.
package secret
