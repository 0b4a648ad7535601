package secretsmanager

import (
	"context"
	"errors"
	"sync"

	"coffer/fsm"
	"coffer/secret"
)

// accessLog gathers the days on which versions were read, so that a read never costs a write: each node
// proposes what it gathered in batches, once for a version and day.
type accessLog struct {
	mu    sync.Mutex // guards reads
	reads map[accessed]int64
}

type accessed struct {
	ref     fsm.Ref
	version string
}

// Bounds of what is gathered and of one command. Beyond the first, reads go unnoted until the next batch is out.
const (
	gatheredReads = 50_000
	readsPerBatch = 500
)

func newAccessLog() *accessLog { return &accessLog{reads: map[accessed]int64{}} }

// note remembers that version v of s was read on a day, unless the state knows.
func (a *accessLog) note(s *secret.Secret, v *secret.Version, day int64) {
	if v.AccessedDay >= day && s.AccessedDay >= day {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.reads) < gatheredReads {
		a.reads[accessed{refTo(s), v.ID}] = day
	}
}

func (a *accessLog) take(max int) []fsm.Access {
	a.mu.Lock()
	defer a.mu.Unlock()
	var reads []fsm.Access
	for k, day := range a.reads {
		if len(reads) == max {
			break
		}
		reads = append(reads, fsm.Access{Ref: k.ref, Version: k.version, Day: day})
		delete(a.reads, k)
	}
	return reads
}

// FlushAccess proposes the reads that this node has gathered. What can't be proposed is gathered again.
func (s *Service) FlushAccess(ctx context.Context) error {
	for {
		reads := s.access.take(readsPerBatch)
		if len(reads) == 0 {
			return nil
		}
		if _, err := s.Propose(ctx, &fsm.RecordAccess{Reads: reads}); err != nil {
			s.access.mu.Lock()
			for _, r := range reads {
				s.access.reads[accessed{r.Ref, r.Version}] = r.Day
			}
			s.access.mu.Unlock()
			return errors.Join(errors.New("reads could not be recorded"), err)
		}
	}
}
