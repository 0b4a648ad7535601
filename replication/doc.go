// Package replication carries primary secrets to the regions that they name.
//
// What another region has not acknowledged stands in the outbox, an index in the state machine. The leader of the
// primary's region reads the state of a lagging secret, seals it to the other region's public key (HPKE) and sends it
// there over mutual TLS; whichever node receives it opens it, encrypts its values under a key of its own region, and
// proposes it. The state machine there decides whether it may come (fsm.Receive). The acknowledgement is proposed back.
//
// An Agent is both ends of it on one node: Run sends while the node leads, Calls answer other regions' nodes.
package replication
