// Package serving is what a region's services stand on: reads and writes of the region's state as fresh as a
// caller asks for, the keys that unwrap it, page tokens, checks of input, and the one table of error codes.
//
// A service's operation reads or proposes through a Base, in a View of one state.
package serving
