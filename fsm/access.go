package fsm

// RecordAccess notes the days on which versions were read.
type RecordAccess struct {
	Reads []Access `cbor:"1,keyasint"`
}

// Access is one version read on a day (days since 1970).
type Access struct {
	Ref     Ref    `cbor:"1,keyasint"`
	Version string `cbor:"2,keyasint"`
	Day     int64  `cbor:"3,keyasint"`
}

func (c *RecordAccess) apply(w *writeTx) (Outcome, error) {
	for _, a := range c.Reads {
		s := w.ByName(a.Ref.Account, a.Ref.Name)
		if s == nil || s.Suffix != a.Ref.Suffix {
			continue
		}
		if s.AccessedDay < a.Day {
			s.AccessedDay = a.Day
			w.putSecret(s)
		}
		if v := w.Version(s, a.Version); v != nil && v.AccessedDay < a.Day {
			v.AccessedDay = a.Day
			w.put(tableVersions, versionKey(s.Account, s.Name, v.ID), encode(v))
		}
	}
	return Outcome{}, nil
}
