package node

// CutOff is what a node does before it ends behind a hung disk.
var CutOff = cutOff

// Repeat does a background job at each tick.
var Repeat = repeat
