//go:build !race

package testcluster

// raceDetector says that tests were built with the race detector, and servers shall be too.
const raceDetector = false
