package fsm

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// A secret and a key remember the last few commands that changed them, so that a command which is proposed again, since
// its fate was unknown, is not carried out twice, though others came between.
const (
	rememberedCommands = 8
	commandHashLen     = 8
)

// remembers reports whether the command with the id is among the recent ones.
func remembers(recent []byte, id []byte) bool {
	hash := xxhash.Sum64(id)
	for ; len(recent) >= commandHashLen; recent = recent[commandHashLen:] {
		if binary.BigEndian.Uint64(recent) == hash {
			return true
		}
	}
	return false
}

// remember adds a command to the recent ones, and drops the oldest.
func remember(recent []byte, id []byte) []byte {
	if over := len(recent) + commandHashLen - rememberedCommands*commandHashLen; over > 0 {
		recent = recent[over:]
	}
	return binary.BigEndian.AppendUint64(append([]byte(nil), recent...), xxhash.Sum64(id))
}
