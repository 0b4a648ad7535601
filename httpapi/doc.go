// Package httpapi is the door: an echo server that speaks the AWS JSON 1.1 protocol to clients, and tells
// operators about health and metrics.
//
// Every operation goes one way: the door finds it by X-Amz-Target, reads a bounded body, verifies the
// signature, decodes the input strictly, calls the operation, and encodes what it answers. Errors become
// AWS's by one table (secretsmanager.ToAPIError).
package httpapi
