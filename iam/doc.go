// Package iam is the pure core of identities: access keys and whom they stand for, the verification of
// request signatures (AWS Signature Version 4), and policy documents.
//
// It does no I/O and reads no clock. Signature rules follow the IAM user guide, "AWS Signature Version 4
// for API requests".
package iam
