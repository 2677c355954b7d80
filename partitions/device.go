package partitions

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// place is where the bytes of a partition are reached: its own device, or a part of the whole disk.
type place struct {
	path  string
	block bool
	at    extent // in path
	align int64  // of direct I/O; 0: not possible
}

// place finds the node of part. The kernel keeps the pages of a disk and of its partitions apart, so the partition's own
// node is used wherever the kernel knows it; the whole disk is for image files and for disks that the kernel does not scan.
func (s *Slots) place(d *disk, part Partition) (place, error) {
	whole := place{path: d.path, block: d.block, at: part.extent}
	whole.align = alignment(whole.at, d)
	if !d.block {
		return whole, nil
	}
	base, err := s.host.device(d.dev)
	if err != nil {
		return whole, nil
	}
	kids := children(base.dir)
	for _, dir := range kids {
		if readAttr(dir, "partition") == strconv.Itoa(part.Number) {
			return s.node(d, part, dir)
		}
	}
	if len(kids) > 0 {
		return place{}, fmt.Errorf("the kernel does not know %s: let it read the partition table again (partprobe), or reboot", part)
	}
	return whole, nil
}

// node returns the device of part that sysfs describes in dir, when both see the same partition.
func (s *Slots) node(d *disk, part Partition, dir string) (place, error) {
	dev, err := parseDev(readAttr(dir, "dev"))
	if err != nil {
		return place{}, err
	}
	x, err := s.host.device(dev)
	if err != nil {
		return place{}, err
	}
	if e, ok := x.sysExtent(); !ok || e != part.extent {
		return place{}, fmt.Errorf("the kernel sees %s at bytes %d+%d, the partition table at %d+%d: "+
			"let the kernel read the table again (partprobe), or reboot", part, e.Start, e.Size, part.Start, part.Size)
	}
	p := place{path: s.host.path("dev", x.uevent["DEVNAME"]), block: true, at: extent{Size: part.Size}}
	p.align = alignment(p.at, d)
	info, err := os.Stat(p.path)
	if err != nil {
		return place{}, fmt.Errorf("cannot reach %s: %w", part, err)
	}
	if devOf(info) != dev {
		return place{}, fmt.Errorf("%s is device %s, but %s is %s", p.path, devOf(info), part, dev)
	}
	return p, nil
}

// page is what every device and file system takes as alignment of direct I/O.
const page = 4096

// alignment returns the largest usable alignment for direct I/O in e, so that rounding never leaves e; 0 where there is none.
func alignment(e extent, d *disk) int64 {
	switch {
	case e.Start%page == 0 && e.Size%page == 0:
		return page
	case d.block && e.Start%int64(d.sector) == 0 && e.Size%int64(d.sector) == 0:
		return int64(d.sector)
	}
	return 0
}

// openDevice opens part for p. The result has size bytes.
func (s *Slots) openDevice(d *disk, part Partition, size int64, p purpose) (*target, error) {
	at, err := s.place(d, part)
	if err != nil {
		return nil, err
	}
	at.at.Size = min(at.at.Size, size)
	if size <= 0 {
		at.at.Size = part.Size
	}
	if p == reading {
		return openTarget(at, os.O_RDONLY, false)
	}
	flags := os.O_RDWR
	if at.block && at.at.Start == 0 {
		flags |= unix.O_EXCL // the kernel refuses what is mounted or held, even by what we cannot see
	}
	t, err := openTarget(at, flags, true)
	switch {
	case errors.Is(err, unix.EBUSY):
		return nil, fmt.Errorf("%s is in use: the kernel holds %s; find out by what (lsblk, fuser) and end that first", part, at.path)
	case errors.Is(err, unix.EROFS), err == nil && t.readOnly():
		if t != nil {
			t.Close()
		}
		return nil, fmt.Errorf("%s is read-only: switch the write protection of %s off (blockdev --setrw)", part, filepath.Base(at.path))
	case err != nil:
		return nil, fmt.Errorf("cannot open %s: %w", part, err)
	}
	return t, nil
}
