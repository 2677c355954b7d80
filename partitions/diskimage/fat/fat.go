// Package fat writes a FAT32 file system from its first byte to its last used one, in one pass. It makes factory images;
// a mounted file system is the kernel's business.
//
// The volume, by the names of Microsoft's "FAT: General Overview of On-Disk Format" 1.03:
//
//	sector 0      boot sector with the BPB        sector 6      its copy
//	sector 1      FSInfo                          sector 7      its copy
//	from 32 on    two copies of the FAT
//	then          the data clusters: the root directory is cluster 2, every file and directory follows in one piece
//
// Everything lies in one piece and in the order of the files given, so that a boot loader which writes a file in place
// (a GRUB environment block) finds it contiguous. The same input gives the same bytes.
package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// Volume says what the file system is like.
type Volume struct {
	Size       int64     // bytes, a multiple of SectorSize
	SectorSize int       // 512 or 4096
	Hidden     uint32    // sectors before the volume on its disk
	Label      string    // at most 11 upper-case ASCII characters
	Serial     uint32    // volume serial number
	Time       time.Time // of every file; FAT knows 1980 to 2107, in steps of two seconds
	Files      []File
}

// File is a file, or a directory when Open is nil and Path ends in "/". Directories above a file are made by themselves.
type File struct {
	Path string // relative, "/" between the parts, e.g. "EFI/BOOT/BOOTX64.EFI"
	Size int64  // bytes that Open yields, below 4 GiB
	Open func() (io.ReadCloser, error)
}

const (
	reservedMin = 32
	copies      = 2
	entrySize   = 32
	// clustersMin is the least number of clusters by which drivers take a file system for FAT32 and not FAT16; a few
	// more keep away from drivers that count wrongly.
	clustersMin = 65525 + 16
	endOfChain  = 0x0fffffff
)

// geometry is where things are, in sectors.
type geometry struct {
	sector     int64 // bytes
	perCluster int64
	reserved   int64
	perFAT     int64
	total      int64
	clusters   int64
}

// MinSize returns the smallest size in bytes of a FAT32 volume with such sectors, in whole 4 KiB.
func MinSize(sectorSize int) int64 {
	s := int64(sectorSize)
	for size := (reservedMin + clustersMin) * s / 4096 * 4096; ; size += 4096 {
		g := geometry{sector: s, perCluster: 1, total: size / s}
		if g.place(); g.clusters >= clustersMin {
			return size
		}
	}
}

// layout chooses the largest clusters up to 4 KiB, which is what flash likes, that still make enough of them.
func layout(size int64, sectorSize int) (geometry, error) {
	if sectorSize != 512 && sectorSize != 4096 {
		return geometry{}, fmt.Errorf("cannot make a FAT32 volume with sectors of %d bytes: want 512 or 4096", sectorSize)
	}
	if size%int64(sectorSize) != 0 || size/int64(sectorSize) >= 1<<32 {
		return geometry{}, fmt.Errorf("cannot make a FAT32 volume of %d bytes: want a multiple of %d, below 2^32 sectors", size, sectorSize)
	}
	for cluster := int64(32768); cluster >= int64(sectorSize); cluster /= 2 {
		g := geometry{sector: int64(sectorSize), perCluster: cluster / int64(sectorSize), total: size / int64(sectorSize)}
		g.place()
		if g.clusters >= clustersMin && (cluster <= 4096 || g.clusters >= 1<<22) {
			return g, nil
		}
	}
	return geometry{}, fmt.Errorf("cannot make a FAT32 volume of %d bytes: with sectors of %d bytes it needs at least %d", size, sectorSize, MinSize(sectorSize))
}

// place finds the size of the FATs, and begins the data at a multiple of 4 KiB.
func (g *geometry) place() {
	g.reserved = reservedMin
	all := (g.total-g.reserved)/g.perCluster + 2
	g.perFAT = (all*4 + g.sector - 1) / g.sector
	for align := max(1, 4096/g.sector); (g.reserved+copies*g.perFAT)%align != 0; {
		g.reserved++
	}
	g.clusters = (g.total - g.reserved - copies*g.perFAT) / g.perCluster
}

func (g geometry) clusterBytes() int64 { return g.perCluster * g.sector }

func (g geometry) clustersOf(n int64) int64 { return (n + g.clusterBytes() - 1) / g.clusterBytes() }

// Write writes the volume to w and returns how many bytes that were. Every byte of the volume behind them is zero, and is
// left to the caller: a hole in a file.
func (v Volume) Write(w io.Writer) (int64, error) {
	g, err := layout(v.Size, v.SectorSize)
	if err != nil {
		return 0, err
	}
	root, err := buildTree(v.Files)
	if err != nil {
		return 0, err
	}
	if err := checkLabel(v.Label); err != nil {
		return 0, err
	}
	root.label = v.Label
	used := root.allocate(g, 2) - 2
	if used > g.clusters {
		return 0, fmt.Errorf("cannot fit the files into %d bytes: they need %d clusters of %d bytes, there are %d",
			v.Size, used, g.clusterBytes(), g.clusters)
	}
	out := &counter{w: w}
	out.write(v.reservedArea(g, used))
	for range copies {
		root.writeFAT(out, g)
	}
	root.writeData(out, g, v.Time)
	return out.n, out.err
}

// counter remembers the first error, so that a row of writes needs one check.
type counter struct {
	w   io.Writer
	n   int64
	err error
}

func (c *counter) write(b []byte) {
	if c.err != nil {
		return
	}
	n, err := c.w.Write(b)
	c.n, c.err = c.n+int64(n), err
}

func (c *counter) zeros(n int64) {
	z := make([]byte, min(n, 1<<16))
	for ; n > 0 && c.err == nil; n -= int64(len(z)) {
		z = z[:min(n, int64(len(z)))]
		c.write(z)
	}
}

// reservedArea returns the boot sector, FSInfo and their copies.
func (v Volume) reservedArea(g geometry, used int64) []byte {
	b := make([]byte, g.reserved*g.sector)
	boot, info := v.bootSector(g), fsInfo(g, used)
	for _, at := range []int64{0, 6} {
		copy(b[at*g.sector:], boot)
		copy(b[(at+1)*g.sector:], info)
	}
	return b
}

func (v Volume) bootSector(g geometry) []byte {
	b := make([]byte, 512)
	le := binary.LittleEndian
	copy(b, "\xeb\x58\x90EVENKEEL")
	le.PutUint16(b[11:], uint16(g.sector))
	b[13] = byte(g.perCluster)
	le.PutUint16(b[14:], uint16(g.reserved))
	b[16] = copies
	b[21] = 0xf8              // media: fixed disk
	le.PutUint16(b[24:], 63)  // sectors per track
	le.PutUint16(b[26:], 255) // heads
	le.PutUint32(b[28:], v.Hidden)
	le.PutUint32(b[32:], uint32(g.total))
	le.PutUint32(b[36:], uint32(g.perFAT))
	le.PutUint32(b[44:], 2) // root directory
	le.PutUint16(b[48:], 1) // FSInfo
	le.PutUint16(b[50:], 6) // copy of the boot sector
	b[64], b[66] = 0x80, 0x29
	le.PutUint32(b[67:], v.Serial)
	copy(b[71:82], padded(v.Label, 11))
	copy(b[82:], "FAT32   ")
	copy(b[90:], "\xf4\xeb\xfd") // hlt, and again: nobody boots from here
	b[510], b[511] = 0x55, 0xaa
	return b
}

func fsInfo(g geometry, used int64) []byte {
	b := make([]byte, 512)
	le := binary.LittleEndian
	le.PutUint32(b, 0x41615252)
	le.PutUint32(b[484:], 0x61417272)
	le.PutUint32(b[488:], uint32(g.clusters-used))
	le.PutUint32(b[492:], uint32(2+used)) // where a driver may begin to look for free clusters
	b[510], b[511] = 0x55, 0xaa
	return b
}

func padded(s string, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = ' '
	}
	if s == "" {
		s = "NO NAME"
	}
	copy(b, s)
	return b
}

func checkLabel(s string) error {
	if len(s) > 11 {
		return fmt.Errorf("cannot use volume label %q: at most 11 characters", s)
	}
	for _, c := range []byte(s) {
		if !shortChar(c) && c != ' ' {
			return fmt.Errorf("cannot use volume label %q: upper-case letters, digits, \"-\" and \"_\" only", s)
		}
	}
	return nil
}

// dosTime returns date and time words. FAT begins in 1980.
func dosTime(t time.Time) (date, clock uint16) {
	t = t.UTC()
	if t.Year() < 1980 {
		t = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	if t.Year() > 2107 {
		t = time.Date(2107, 12, 31, 23, 59, 58, 0, time.UTC)
	}
	return uint16(t.Year()-1980)<<9 | uint16(t.Month())<<5 | uint16(t.Day()), uint16(t.Hour())<<11 | uint16(t.Minute())<<5 | uint16(t.Second()/2)
}

// copyFile writes exactly size bytes of f.
func copyFile(out *counter, f File) error {
	r, err := f.Open()
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", f.Path, err)
	}
	defer r.Close()
	n, err := io.Copy(writerFunc(func(b []byte) (int, error) { out.write(b); return len(b), out.err }), io.LimitReader(r, f.Size))
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", f.Path, err)
	}
	if n < f.Size {
		return fmt.Errorf("cannot read %s: it ends after %d of %d bytes", f.Path, n, f.Size)
	}
	switch n, err := io.ReadFull(r, make([]byte, 1)); {
	case n > 0:
		return fmt.Errorf("cannot read %s: it has more than %d bytes", f.Path, f.Size)
	case !errors.Is(err, io.EOF): // readers that check what they read say so at their end
		return fmt.Errorf("cannot read %s: %w", f.Path, err)
	}
	return nil
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

var errNoReader = errors.New("it has no content: a directory's path ends in \"/\"")
