package fsm_test

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"coffer/fsm"
)

// TestAnEntryIsItsCommands takes entries apart that were put together, of any number and size, as heads of all lengths
// need.
func TestAnEntryIsItsCommands(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		size := rapid.SampledFrom([]int{0, 1, 23, 24, 255, 256, 65535, 65536, 70000})
		var commands [][]byte
		for range rapid.SampledFrom([]int{0, 1, 2, 23, 24, 256}).Draw(r, "commands") {
			commands = append(commands, bytes.Repeat([]byte{byte(len(commands))}, size.Draw(r, "size")))
		}
		got, err := fsm.DecodeEntry(fsm.EncodeEntry(commands))
		if err != nil || len(got) != len(commands) {
			r.Fatalf("%d of %d commands: %v", len(got), len(commands), err)
		}
		for i := range got {
			if !bytes.Equal(got[i], commands[i]) {
				r.Fatalf("command %d of %d bytes has %d", i, len(commands[i]), len(got[i]))
			}
		}
	})
}
