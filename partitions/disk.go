package partitions

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/partition/gpt"
	"golang.org/x/sys/unix"
)

// Selector names one partition of a disk, by exactly one of its fields.
type Selector struct {
	Label    string // GPT partition name, "PARTLABEL" elsewhere; it must be unique on the disk
	PartUUID string // unique partition GUID, in any case of letters
	Type     string // partition type GUID; Order tells which of them
	Order    int    // 1 is the first partition of Type, counted by partition number
}

// ParseSelector reads the text form: "PARTLABEL=root-a", "PARTUUID=...", or "PARTTYPE=<GUID>/1" for the first partition
// of that type. A word without "=" is a label.
func ParseSelector(text string) (Selector, error) {
	key, value, found := strings.Cut(text, "=")
	if !found {
		key, value = "PARTLABEL", text
	}
	sel := Selector{}
	switch key {
	case "PARTLABEL":
		sel.Label = value
	case "PARTUUID":
		sel.PartUUID = value
	case "PARTTYPE":
		guid, order, _ := strings.Cut(value, "/")
		n, err := strconv.Atoi(order)
		if err != nil {
			return Selector{}, fmt.Errorf("cannot read partition %q: want PARTTYPE=<GUID>/<number>, counted from 1", text)
		}
		sel.Type, sel.Order = guid, n
	case "UUID", "LABEL":
		return Selector{}, fmt.Errorf("cannot select partition %q: both slots' images share that; use PARTLABEL= or PARTUUID=", text)
	default:
		return Selector{}, fmt.Errorf("cannot read partition %q: want PARTLABEL=, PARTUUID= or PARTTYPE=", text)
	}
	return sel, sel.check()
}

// String returns the text form that ParseSelector reads.
func (s Selector) String() string {
	switch {
	case s.PartUUID != "":
		return "PARTUUID=" + strings.ToLower(s.PartUUID)
	case s.Type != "":
		return "PARTTYPE=" + strings.ToLower(s.Type) + "/" + strconv.Itoa(s.Order)
	case s.Label != "":
		return "PARTLABEL=" + s.Label
	}
	return "no partition"
}

// IsZero reports whether s selects nothing.
func (s Selector) IsZero() bool { return s == Selector{} }

func (s Selector) check() error {
	n := 0
	for _, set := range []bool{s.Label != "", s.PartUUID != "", s.Type != ""} {
		if set {
			n++
		}
	}
	switch {
	case n != 1:
		return fmt.Errorf("partition %q needs exactly one of label, PARTUUID and type", s)
	case s.Type != "" && s.Order < 1:
		return fmt.Errorf("partition %q needs the order among those of its type, from 1", s)
	case s.PartUUID != "" && !isGUID(s.PartUUID):
		return fmt.Errorf("partition %q: %q is no GUID", s, s.PartUUID)
	case s.Type != "" && !isGUID(s.Type):
		return fmt.Errorf("partition %q: %q is no GUID", s, s.Type)
	}
	return nil
}

func isGUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (c == '-') || !dash && !strings.ContainsRune("0123456789abcdefABCDEF", rune(c)) {
			return false
		}
	}
	return true
}

func (s Selector) matches(p Partition) bool {
	switch {
	case s.Label != "":
		return p.Label == s.Label
	case s.PartUUID != "":
		return strings.EqualFold(p.PartUUID, s.PartUUID)
	}
	return strings.EqualFold(p.Type, s.Type)
}

// extent is a range of bytes on the disk.
type extent struct {
	Start int64 `json:"start"` // bytes from the start of the disk
	Size  int64 `json:"size"`  // bytes
}

func (e extent) overlaps(o extent) bool { return e.Start < o.Start+o.Size && o.Start < e.Start+e.Size }

func (e extent) contains(o extent) bool {
	return e.Start <= o.Start && o.Start+o.Size <= e.Start+e.Size
}

// Partition is one entry of a GPT.
type Partition struct {
	extent
	Number   int    `json:"number"` // from 1
	Label    string `json:"label"`
	PartUUID string `json:"partuuid"` // lower case
	Type     string `json:"type"`     // lower case
	disk     string
}

func (p Partition) String() string {
	return fmt.Sprintf("partition %d (%q) of %s", p.Number, p.Label, p.disk)
}

// disk is what a look at the disk found.
type disk struct {
	path       string
	block      bool  // a block device, not a file
	dev        devNo // block devices
	info       os.FileInfo
	size       int64
	sector     int
	partitions []Partition
	recovered  bool // the primary table is damaged, this is the backup
}

// openDisk looks at the disk and closes it again.
func (s *Slots) openDisk() (*disk, error) {
	path := s.o.Disk
	if path == "" {
		var err error
		if path, err = s.host.diskUnder(s.o.RootMount); err != nil {
			return nil, fmt.Errorf("cannot find the disk of this machine: %w", err)
		}
	}
	d, err := readDisk(path, s.o.SectorSize)
	if err != nil {
		return nil, fmt.Errorf("cannot use disk %s: %w", path, err)
	}
	return d, nil
}

func readDisk(path string, sector int) (*disk, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d := &disk{path: path}
	if d.info, err = f.Stat(); err != nil {
		return nil, err
	}
	d.block = d.info.Mode()&os.ModeDevice != 0 && d.info.Mode()&os.ModeCharDevice == 0
	if !d.block && !d.info.Mode().IsRegular() {
		return nil, errors.New("it is neither a block device nor a disk image file")
	}
	if d.size, err = f.Seek(0, io.SeekEnd); err != nil {
		return nil, err
	}
	if err := d.findSectorSize(f, sector); err != nil {
		return nil, err
	}
	return d, d.readTable(f)
}

func (d *disk) findSectorSize(f *os.File, want int) error {
	d.sector = want
	if d.block {
		d.dev = devOf(d.info)
		n, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET)
		if err != nil {
			return fmt.Errorf("cannot tell its sector size: %w", err)
		}
		d.sector = n
	}
	found := tableSectorSize(f, d.size)
	switch {
	case found == 0:
		return errors.New("it has no GUID partition table (GPT)")
	case d.sector == 0:
		d.sector = found
	case found != d.sector:
		return fmt.Errorf("its partition table was made for sectors of %d bytes, its sectors have %d: "+
			"write an image that was built for this sector size", found, d.sector)
	}
	return nil
}

var gptSignature = []byte("EFI PART")

// tableSectorSize looks where the primary header, then where the backup header would be. A GPT that is read with the
// wrong sector size looks like a disk with a protective MBR and nothing else. It returns 0 where there is no table.
func tableSectorSize(r io.ReaderAt, size int64) int {
	for _, back := range []bool{false, true} {
		for _, sector := range []int64{512, 4096} {
			off := sector
			if back {
				off = size - sector
			}
			b := make([]byte, len(gptSignature))
			if _, err := r.ReadAt(b, off); err == nil && bytes.Equal(b, gptSignature) {
				return int(sector)
			}
		}
	}
	return 0
}

// readTable uses the partition table's own reader rather than the whole-disk one, which opens exclusively and takes an
// MBR where there is no GPT.
func (d *disk) readTable(f *os.File) (err error) {
	if err := boundTable(f, int64(d.sector), d.size); err != nil {
		return err
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("its partition table is damaged: %v", p)
		}
	}()
	t, err := gpt.Read(file.New(f, true), d.sector, d.sector)
	if err != nil {
		return fmt.Errorf("its partition table is damaged: %w", err)
	}
	d.recovered = t.RecoveredFromBackup
	for _, p := range t.Partitions {
		part, err := d.partition(p)
		if err != nil {
			return err
		}
		d.partitions = append(d.partitions, part)
	}
	return nil
}

// maxEntries bounds what the reader allocates for a table; 128 is usual.
const maxEntries = 1024

// boundTable refuses headers with a table of absurd size, which the reader would allocate before it checks anything.
func boundTable(r io.ReaderAt, sector, size int64) error {
	for _, off := range []int64{sector, size - sector} {
		h := make([]byte, 92)
		if _, err := r.ReadAt(h, off); err != nil || !bytes.Equal(h[:8], gptSignature) {
			continue
		}
		count, entry := binary.LittleEndian.Uint32(h[80:]), binary.LittleEndian.Uint32(h[84:])
		if count > maxEntries || entry != gpt.PartitionEntrySize {
			return fmt.Errorf("its partition table at byte %d has %d entries of %d bytes: want at most %d of %d",
				off, count, entry, maxEntries, gpt.PartitionEntrySize)
		}
	}
	return nil
}

func (d *disk) partition(p *gpt.Partition) (Partition, error) {
	last := uint64(d.size) / uint64(d.sector)
	if p.Start < 2 || p.End < p.Start || p.End >= last {
		return Partition{}, fmt.Errorf("partition %d (%q) lies outside of it: sectors %d to %d of %d", p.Index, p.Name, p.Start, p.End, last)
	}
	start := int64(p.Start) * int64(d.sector)
	return Partition{
		extent: extent{Start: start, Size: int64(p.End+1)*int64(d.sector) - start},
		Number: p.Index, Label: p.Name, PartUUID: strings.ToLower(p.GUID), Type: strings.ToLower(string(p.Type)), disk: d.path,
	}, nil
}

// find returns the partition that sel selects.
func (d *disk) find(sel Selector) (Partition, error) {
	var found []Partition
	for _, p := range d.partitions {
		if sel.matches(p) {
			found = append(found, p)
		}
	}
	switch {
	case sel.Type != "" && sel.Order <= len(found):
		return found[sel.Order-1], nil
	case len(found) == 0 || sel.Type != "":
		return Partition{}, fmt.Errorf("disk %s has no partition %s: it has %s", d.path, sel, d.names())
	case len(found) > 1:
		return Partition{}, fmt.Errorf("disk %s has %d partitions %s, number %d and %d among them: select by PARTUUID",
			d.path, len(found), sel, found[0].Number, found[1].Number)
	}
	return found[0], nil
}

func (d *disk) names() string {
	if len(d.partitions) == 0 {
		return "none"
	}
	names := make([]string, len(d.partitions))
	for i, p := range d.partitions {
		names[i] = fmt.Sprintf("%d %q", p.Number, p.Label)
	}
	return strings.Join(names, ", ")
}

// number returns the partition with that number, or false.
func (d *disk) number(n int) (Partition, bool) {
	for _, p := range d.partitions {
		if p.Number == n {
			return p, true
		}
	}
	return Partition{}, false
}
