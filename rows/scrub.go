package rows

import (
	"context"
	"errors"
	"fmt"
	"time"

	"coffer/damage"
)

// How fast a scrub reads: it works for a moment that nobody notices who waits for a core, then rests for longer than it
// worked. So it takes a fifth of one core, or of the disk's time, at most.
const (
	scrubWork = 500 * time.Microsecond
	scrubRest = 4 // times what it worked
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
		began := time.Now()
		for _, t := range n.tables {
			c := n.tx.cursor(t, nil, false)
			for k, row := c.next(); k != nil; k, row = c.next() {
				digest += t.verify(k, row)
				if !n.tx.Has(t, k) {
					return fmt.Errorf("%w: a row of table %s can't be found by its key", damage.Err, t.Name)
				}
				rows++
				if worked := time.Since(began); worked > scrubWork {
					select {
					case <-time.After(scrubRest * worked):
					case <-ctx.Done():
						return ctx.Err()
					}
					began = time.Now()
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
