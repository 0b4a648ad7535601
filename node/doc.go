// Package node puts one node together from its configuration, starts its parts in order and stops them
// in the reverse order: store, cluster, service, client port, jobs.
package node
