package rows

// FailFlushes makes flushes fail with what err returns, while that is not nil.
func (s *Store) FailFlushes(err func() error) {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	s.options.Fault = err
}

// MaxUnflushed is the bound on what is in memory only.
const MaxUnflushed = maxUnflushed

// Unflushed is what is in memory only, in bytes.
func (s *Store) Unflushed() int { return s.now.Load().unflushed() }

// ReadAcross begins a transaction on the picture as it was before do. It returns false if that can't be, since the
// file may be ahead of the picture; else it calls view.
func (s *Store) ReadAcross(do func(), view func(*Tx)) bool {
	p := s.now.Load()
	do()
	t, err := s.beginOn(p)
	if t == nil || err != nil {
		return false
	}
	defer t.end()
	view(t)
	return true
}

// Commits is how many transactions have written to the file.
func (s *Store) Commits() (n int) {
	_ = s.View(func(t *Tx) error {
		n = t.tx.ID()
		return nil
	})
	return n
}

// Early is how many bytes in memory a flush comes at, after one that wrote rows of so many bytes to pages of so many.
var Early = early
