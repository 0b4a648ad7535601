package fsm

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// How fast a scrub reads: it rests between bursts, so that requests hardly notice it.
const (
	scrubBurst = 2_000
	scrubRest  = 10 * time.Millisecond
)

// Scrub reads every row, verifies its checksum, looks it up by its key, and compares the sum with the digest that Apply
// keeps: what it finds missing, altered or added is damage (ErrDamaged). It reads one state
// throughout, while writes go on, and answers the number of rows.
func (s *Store) Scrub(ctx context.Context) (rows int, err error) {
	n, err := s.begin()
	if err != nil {
		return 0, err
	}
	defer n.Release()
	err = n.guard(func() error {
		digest := uint64(0)
		for t := tableMeta + 1; t < tables; t++ {
			b := n.tx.bucket(t)
			c := b.Cursor()
			for k, row := c.First(); k != nil; k, row = c.Next() {
				digest += storedSum(t, k, row)
				if b.Get(k) == nil {
					return fmt.Errorf("%w: a row of table %s can't be found by its key", ErrDamaged, tableNames[t])
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
		if digest != n.st.digest {
			return fmt.Errorf("%w: the rows of the state store do not add up to its digest: some are missing or not its own", ErrDamaged)
		}
		return nil
	})
	if errors.Is(err, context.Canceled) {
		return rows, nil
	}
	return rows, err
}
