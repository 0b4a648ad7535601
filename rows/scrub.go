package rows

import (
	"context"
	"errors"
	"fmt"
	"time"

	"coffer/damage"
)

// How fast a scrub reads: it rests between bursts, so that requests hardly notice it.
const (
	scrubBurst = 2_000
	scrubRest  = 10 * time.Millisecond
)

// Scrub reads every row, verifies its checksum, looks it up by its key, and compares the sum with the digest that is
// kept as rows change: what it finds missing, altered or added is damage ([damage.Err]). It reads one state
// throughout, while writes go on, and returns the number of rows. When ctx ends it ends early, without an error.
func (s *Store) Scrub(ctx context.Context) (rows int, err error) {
	n, err := s.Snapshot()
	if err != nil {
		return 0, err
	}
	defer n.Close()
	err = n.tx.picture.file.guard(func() error {
		digest := uint64(0)
		for _, t := range n.tables {
			c := n.tx.cursor(t, nil, false)
			for k, row := c.next(); k != nil; k, row = c.next() {
				digest += t.verify(k, row)
				if !n.tx.Has(t, k) {
					return fmt.Errorf("%w: a row of table %s can't be found by its key", damage.Err, t.Name)
				}
				if rows++; rows%scrubBurst == 0 {
					select {
					case <-time.After(scrubRest):
					case <-ctx.Done():
						return ctx.Err()
					}
				}
			}
		}
		if digest != n.Position.Digest {
			return fmt.Errorf("%w: the rows of the state store do not add up to its digest: some are missing or not its own",
				damage.Err)
		}
		return nil
	})
	if errors.Is(err, context.Canceled) {
		return rows, nil
	}
	return rows, s.found(err)
}
