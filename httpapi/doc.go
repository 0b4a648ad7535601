// Package httpapi is the door: an echo server that speaks the AWS JSON 1.1 protocol to clients, and tells
// operators about health and metrics.
//
// Every operation goes one way: the door finds it by X-Amz-Target, examines the signature as far as it can without the
// body, reads a bounded body, proves the signature, waits until the node has room for the request, decodes the input
// strictly, calls the operation, and encodes what it returns. Errors become AWS's by one table ([serving.ToAPIError]).
// What clients can take of the node, signed or not, is bounded by [Limits].
package httpapi
