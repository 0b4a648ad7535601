package fsm_test

import (
	"fmt"
	"testing"

	"github.com/hashicorp/raft"

	"coffer/fsm"
	"coffer/secret"
)

// BenchmarkApply applies entries of eight puts each to a thousand secrets: what a region's leader and followers do
// under load. A figure is the cost of one put.
func BenchmarkApply(b *testing.B) {
	const secrets, perEntry = 1000, 8
	s := open(b, b.TempDir())
	apply(b, s, 1, initCommand())
	index := uint64(1)
	name := func(i int) fsm.Ref {
		return fsm.Ref{Account: account, Name: fmt.Sprintf("secret/%04d", i%secrets), Suffix: "AAAAAA"}
	}
	for i := range secrets {
		index++
		apply(b, s, index, &fsm.CreateSecret{Ref: name(i), At: 1})
	}
	sealed := make([]byte, 92)
	entries := make([]*raft.Log, 0, b.N/perEntry+1)
	for i := 0; i < b.N; i += perEntry {
		index++
		var commands [][]byte
		for j := i; j < i+perEntry; j++ {
			commands = append(commands, fsm.Encode(idOf(index, j-i), index-1, &fsm.PutVersion{
				Ref: name(j), At: int64(j), Labels: []string{secret.Current},
				Version: fsm.NewVersion{ID: fmt.Sprintf("11111111-2222-3333-4444-%012d", j), KeyID: "k", WrappedKey: sealed, Sealed: sealed},
			}))
		}
		entries = append(entries, &raft.Log{Index: index, Term: 1, Type: raft.LogCommand, Data: fsm.EncodeEntry(commands)})
	}
	b.ResetTimer()
	b.ReportAllocs()
	for _, l := range entries {
		if _, ok := s.Apply(l).([]fsm.Outcome); !ok {
			b.Fatal("not applied")
		}
	}
}
