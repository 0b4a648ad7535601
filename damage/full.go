package damage

import (
	"errors"
	"io/fs"
	"syscall"
)

// FullBeforeSync reports whether err, from a write of bbolt, says that the disk is full and comes from before the file
// was synced: only then may the same be tried again. After a failed fsync the pages that it did not write may be marked
// clean, so a second one succeeds without having written them; the process has to end, and starts from what is on disk.
//
// bbolt writes through [os.File], whose errors name what failed, and syncs by the bare system call.
func FullBeforeSync(err error) bool {
	var failed *fs.PathError
	if !errors.As(err, &failed) || failed.Op != "write" {
		return false
	}
	return errors.Is(failed.Err, syscall.ENOSPC) || errors.Is(failed.Err, syscall.EDQUOT)
}
