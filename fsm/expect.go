package fsm

import "unsafe"

// Expect hands over the commands of an entry that this node proposes, in the order in which they stand in it, so that
// they are not decoded once more when the entry is applied here: Raft hands the leader's machine the bytes that it was
// given. forget has to be called when the entry's fate is known, or nobody waits for it any more.
func (s *Store) Expect(entry []byte, commands []Decoded) (forget func()) {
	at := unsafe.SliceData(entry)
	s.expecting.Store(at, commands)
	return func() { s.expecting.Delete(at) }
}

// expected returns the commands of an entry if they were handed over, once: applying may change them, and an entry that
// is applied again begins with what is in the log.
func (s *Store) expected(entry []byte) []Decoded {
	if commands, ok := s.expecting.LoadAndDelete(unsafe.SliceData(entry)); ok {
		return commands.([]Decoded)
	}
	return nil
}
