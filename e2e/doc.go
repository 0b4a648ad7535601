// Package e2e has the tests of whole clusters and regions: real processes, driven through the APIs that their users
// have.
package e2e
