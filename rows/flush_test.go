package rows_test

import (
	"testing"

	"coffer/rows"
)

// TestScatteredRowsAreFlushedEarlier shows that a flush that had to write many pages for few rows has the next one come
// earlier, within bounds.
func TestScatteredRowsAreFlushedEarlier(t *testing.T) {
	const MiB = 1 << 20
	for _, c := range []struct{ rows, pages, want int64 }{
		{24 * MiB, 30 * MiB, 24 * MiB}, // together on few pages
		{24 * MiB, 192 * MiB, 8 * MiB}, // each on pages of its own
		{8 * MiB, 64 * MiB, 8 * MiB},   // and so it stays
		{8 * MiB, 32 * MiB, 16 * MiB},  // until they are together again
		{1, 1024 * MiB, 2 * MiB},       // never without end
		{0, 0, 2 * MiB},                // a position without rows
	} {
		if got := rows.Early(c.rows, c.pages); got != c.want {
			t.Errorf("after %d bytes of rows on %d bytes of pages: at %d, wanted %d", c.rows, c.pages, got, c.want)
		}
	}
}
