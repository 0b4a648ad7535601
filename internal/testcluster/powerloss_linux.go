package testcluster

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ext4Shutdown is EXT4_IOC_SHUTDOWN, _IOR('X', 125, __u32), with EXT4_GOING_FLAGS_NOLOGFLUSH.
const (
	ext4Shutdown = 0x8004587d
	noLogFlush   = 2
)

// LosePower makes the file system forget what was not synced, as if its disk lost power. It takes no
// writes until it is unmounted and mounted again.
func (d *Disk) LosePower() error {
	dir, err := os.Open(d.Dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.IoctlSetPointerInt(int(dir.Fd()), ext4Shutdown, noLogFlush); err != nil {
		return fmt.Errorf("shut down the file system at %s: %w", d.Dir, err)
	}
	return nil
}
