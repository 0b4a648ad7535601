package fsm

// Applying returns the index of the log entry that is being applied at this moment, and its checksum, by which it could
// be skipped ([Options]); 0 while none is.
func (s *Store) Applying() (index, sum uint64) {
	l := s.applying.Load()
	if l == nil {
		return 0, 0
	}
	sum, _ = EntrySum(l.Data) // it was read before
	return l.Index, sum
}
