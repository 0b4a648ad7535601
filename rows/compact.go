package rows

import (
	"errors"
	"log/slog"
	"os"

	"go.etcd.io/bbolt"

	"coffer/durable"
)

// A file is compacted when it is opened, if more than half of its pages are free and it is larger than
// leastCompacted: bbolt gives no page back by itself. The copy takes about a second for 300 MB.
const leastCompacted = 64 << 20

// compacting is how much one transaction of the copy writes, in bytes.
const compacting = 8 << 20

// compact replaces an open file by a copy without its free pages, if that is worth it. Where the copy can't be made,
// since the disk is full for example, it returns the file as it is.
func compact(db *bbolt.DB, path string, log *slog.Logger) (*bbolt.DB, error) {
	temp := path + ".compact"
	if err := os.RemoveAll(temp); err != nil {
		return db, nil
	}
	info, err := os.Stat(path)
	free := int64(db.Stats().FreePageN) * int64(db.Info().PageSize)
	if err != nil || info.Size() <= leastCompacted || free <= info.Size()/2 {
		return db, nil
	}
	if err := (*file)(nil).guard(func() error { return copyTo(temp, db) }); err != nil {
		log.Warn("the state store's file can't be compacted; it is used as it is", "error", err)
		return db, os.RemoveAll(temp)
	}
	if err := db.Close(); err != nil {
		return nil, err
	}
	if err := durable.Install(temp, path); err != nil {
		return nil, err
	}
	log.Info("the state store's file was compacted", "bytes", info.Size(), "free", free)
	return openBolt(path)
}

func copyTo(temp string, db *bbolt.DB) error {
	to, err := bbolt.Open(temp, 0o600, boltOptions(0))
	if err != nil {
		return err
	}
	to.AllocSize, to.NoSync = growth, true
	return errors.Join(bbolt.Compact(to, db, compacting), to.Sync(), to.Close())
}

// FreeBytes is the size of the file's pages that hold nothing.
func (s *Store) FreeBytes() int64 {
	p := s.now.Load()
	if p.file == nil || !p.file.acquire() {
		return 0
	}
	defer p.file.release()
	stats := p.file.db.Stats()
	return int64(stats.FreePageN+stats.PendingPageN) * int64(p.file.db.Info().PageSize)
}
