package node

// CutOff is what a node does before it ends behind a hung disk.
var CutOff = cutOff
