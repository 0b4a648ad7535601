package fsm_test

import (
	"fmt"
	"syscall"
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
				Version: fsm.NewVersion{
					ID: fmt.Sprintf("11111111-2222-3333-4444-%012d", j), KeyID: "k", WrappedKey: sealed, Sealed: sealed,
				},
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

// cpu is the time that the process has used, in nanoseconds.
func cpu() int64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkApplyBatch applies batches of 64 puts to 10,000 secrets, as Raft hands them over under load: 16 entries of 4
// puts each. Flushes are part of it. cpu-ns/put is what the process used, whatever else the machine does.
func BenchmarkApplyBatch(b *testing.B) {
	const secrets, entries, perEntry = 10_000, 16, 4
	s := open(b, b.TempDir())
	apply(b, s, 1, initCommand())
	ref := func(i int) fsm.Ref {
		return fsm.Ref{Account: account, Name: fmt.Sprintf("service/%05d/password", i), Suffix: "AAAAAA"}
	}
	sealed := func(i int) fsm.NewVersion {
		id := fmt.Sprintf("00000000-0000-4000-8000-%012d", i)
		return fsm.NewVersion{ID: id, KeyID: "k", WrappedKey: make([]byte, 180), Sealed: make([]byte, 1024)}
	}
	index := uint64(1)
	for i := 0; i < secrets; {
		var batch []fsm.Command
		for range 100 {
			v := sealed(i)
			batch = append(batch, &fsm.CreateSecret{Ref: ref(i), At: int64(i), Version: &v})
			i++
		}
		index++
		apply(b, s, index, batch...)
	}
	put := 0
	next := func() []*raft.Log {
		logs := make([]*raft.Log, entries)
		for i := range logs {
			var commands [][]byte
			for range perEntry {
				put++
				at := secrets + put
				c := &fsm.PutVersion{
					Ref: ref(put * 7919 % secrets), At: int64(at), Version: sealed(at), Labels: []string{secret.Current},
				}
				commands = append(commands, fsm.Encode(idOf(uint64(put), 0), index, c))
			}
			index++
			logs[i] = &raft.Log{Index: index, Term: 1, Type: raft.LogCommand, Data: fsm.EncodeEntry(commands)}
		}
		return logs
	}
	if err := s.Flush(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	var making int64
	start := cpu()
	for b.Loop() {
		b.StopTimer()
		before := cpu()
		logs := next()
		making += cpu() - before
		b.StartTimer()
		for i, answer := range s.ApplyBatch(logs) {
			if _, ok := answer.([]fsm.Outcome); !ok {
				b.Fatal(i, answer)
			}
		}
	}
	if err := s.Flush(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(cpu()-start-making)/float64(b.N)/entries/perEntry, "cpu-ns/put")
}
