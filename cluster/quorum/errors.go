package quorum

import "errors"

// ErrNoLeader says that no leader confirmed in time that this node's state is up to date.
var ErrNoLeader = errors.New("no leader of the region could be reached, so the state of this node may be old")

// ErrBehind says that a leader answered, and that this node has not applied in time what it must have.
var ErrBehind = errors.New("this node has not caught up with the region's leader yet")

// ErrUnavailable says that a write could not be carried out, or that nobody can say whether it was.
var ErrUnavailable = errors.New("no majority of the region's nodes took the command in time")

// ErrRefused says that the leader can't read a command, or that it is none that the log may hold: it was not proposed.
var ErrRefused = errors.New("the leader refuses the command")

// ErrHalted says that the leader has stopped applying the log, at an entry that it can't apply: the region takes no
// writes. What was under way may be carried out later.
var ErrHalted = errors.New("the leader can't apply an entry of the log, so the region takes no writes")
