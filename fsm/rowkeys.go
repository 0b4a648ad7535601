package fsm

import "encoding/binary"

func secretKey(account, name string) []byte {
	b := make([]byte, 0, len(account)+1+len(name))
	return append(append(append(b, account...), 0), name...)
}

func versionKey(account, name, id string) []byte {
	b := make([]byte, 0, len(account)+len(name)+len(id)+2)
	return append(append(append(append(append(b, account...), 0), name...), 0), id...)
}

func valueKey(account string, place uint64) []byte {
	b := make([]byte, 0, len(account)+9)
	return binary.BigEndian.AppendUint64(append(append(b, account...), 0), place)
}

func timeKey(account string, at int64, name string) []byte {
	b := make([]byte, 0, len(account)+9+len(name))
	b = append(append(b, account...), 0)
	return append(binary.BigEndian.AppendUint64(b, uint64(at)), name...)
}

// regionKey is the key of what belongs to a secret and a region.
func regionKey(region, account, name string) []byte {
	b := make([]byte, 0, len(region)+len(account)+len(name)+2)
	return append(append(append(append(append(b, region...), 0), account...), 0), name...)
}

func deletionKey(at int64, account, name string) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 9+len(account)+len(name)), uint64(at))
	return append(append(append(b, account...), 0), name...)
}
