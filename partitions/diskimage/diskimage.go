// Package diskimage builds the factory image of a machine: the file that is written to its disk once, and from then on
// only updated.
//
// The disk, each partition beginning at a multiple of 1 MiB:
//
//	protective MBR, GPT
//	1 esp         FAT32: the boot loader, evenkeel/grub.cfg, evenkeel/grubenv, evenkeel/a/, evenkeel/b/
//	2 ROLE-a      for each partition role: filled from the release
//	3 ROLE-b      empty
//	... state     ext4; it takes what is left of the disk
//	backup GPT
//
// Everything but the state partition is made in Go. ext4 is made by mkfs.ext4 and debugfs (Debian: e2fsprogs), on the
// publisher's machine; no other privilege or tool is needed.
//
// Every identifier is derived from a seed, so the same input gives the same bytes, and the boot entries can name a
// partition before it exists: see Spec.PartUUID.
package diskimage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/google/uuid"

	"github.com/evenkeel-os/evenkeel/partitions/diskimage/fat"
	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/updater"
)

// Content is where bytes come from. It is opened once.
type Content struct {
	Size   int64 // exactly what Open yields
	Open   func() (io.ReadCloser, error)
	SHA256 release.Digest // compared with what Open yields, unless it is zero
}

// Bytes is the Content b.
func Bytes(b []byte) Content {
	return Content{Size: int64(len(b)), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }}
}

// File is a file of the EFI system or the state partition. Its path is relative, with "/" between the parts; one that
// ends in "/" is a directory without content.
type File struct {
	Path string
	Content
}

// Role is a role that is a partition of each slot. Its partitions are labelled NAME-a and NAME-b.
type Role struct {
	Name release.Role
	Size int64   // of each partition, in bytes; 0: twice the image, for a later one may be larger
	A    Content // what slot A is filled with
	Type string  // partition type GUID; empty: Linux file system data
}

// Spec says what the disk is like. Sizes are bytes, rounded up to whole MiB.
type Spec struct {
	Seed       string    // of every identifier; machines may share it, two disks in one machine may not
	Time       time.Time // of every file; zero: 1980-01-01, the first that FAT knows
	SectorSize int       // 512 or 4096; 0: 512
	Size       int64     // of the disk; 0: what the partitions need
	ESPSize    int64     // 0: 128 MiB, or 264 MiB with large sectors, or twice the files
	StateSize  int64     // at least; 0: 64 MiB
	ESP        []File    // in this order on the disk; see ESPFiles
	Roles      []Role
	State      []File // config.d/..., owned by root
}

const (
	mib        = 1 << 20
	espLabel   = "esp"
	stateLabel = "state"
)

// withDefaults returns s with every default filled in, or why it cannot be built.
func (s Spec) withDefaults() (Spec, error) {
	if s.Seed == "" {
		return s, errors.New("cannot build a disk image without a seed for its identifiers")
	}
	if s.SectorSize == 0 {
		s.SectorSize = 512
	}
	if s.SectorSize != 512 && s.SectorSize != 4096 {
		return s, fmt.Errorf("cannot build a disk image with sectors of %d bytes: want 512 or 4096", s.SectorSize)
	}
	if s.Time.IsZero() {
		s.Time = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	if s.ESPSize == 0 {
		s.ESPSize = max(128*mib, 2*total(s.ESP))
		if s.SectorSize == 4096 {
			s.ESPSize = max(s.ESPSize, 264*mib)
		}
	}
	if s.StateSize == 0 {
		s.StateSize = 64 * mib
	}
	s.ESPSize, s.StateSize, s.Size = up(s.ESPSize), up(s.StateSize), up(s.Size)
	if least := fat.MinSize(s.SectorSize); s.ESPSize < least {
		return s, fmt.Errorf("cannot make an EFI system partition of %d bytes: with sectors of %d bytes it needs at least %d", s.ESPSize, s.SectorSize, least)
	}
	roles := make([]Role, len(s.Roles))
	for i, r := range s.Roles {
		if r.Size == 0 {
			r.Size = max(mib, 2*r.A.Size)
		}
		r.Size = up(r.Size)
		if r.A.Size > r.Size {
			return s, fmt.Errorf("cannot fit role %q: its image has %d bytes, its partition %d", r.Name, r.A.Size, r.Size)
		}
		if r.Type == "" {
			r.Type = string(gpt.LinuxFilesystem)
		}
		roles[i] = r
	}
	s.Roles = roles
	return s, nil
}

func up(n int64) int64 { return (n + mib - 1) / mib * mib }

func total(files []File) (n int64) {
	for _, f := range files {
		n += f.Size
	}
	return n
}

// PartUUID returns the PARTUUID that the partition of a role in a slot will have, in lower case.
func (s Spec) PartUUID(slot updater.Slot, role release.Role) string {
	return s.guid(slotLabel(slot, role))
}

// StatePartUUID returns the PARTUUID that the state partition will have, in lower case.
func (s Spec) StatePartUUID() string { return s.guid(stateLabel) }

func slotLabel(slot updater.Slot, role release.Role) string { return string(role) + "-" + string(slot) }

// guid derives a random-looking (version 4) GUID from the seed and what it is for.
func (s Spec) guid(what string) string {
	sum := sha256.Sum256([]byte("evenkeel disk image\x00" + s.Seed + "\x00" + what))
	id := uuid.UUID(sum[:16])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id.String()
}

// part is one partition to be.
type part struct {
	label, typ  string
	start, size int64
	fill        func(ctx context.Context, f *os.File, p part) error
}

// plan lays the partitions out and returns them with the size of the disk.
func (s Spec) plan() ([]part, int64, error) {
	parts := []part{{label: espLabel, typ: string(gpt.EFISystemPartition), size: s.ESPSize, fill: s.fillESP}}
	for _, r := range s.Roles {
		for _, slot := range []updater.Slot{updater.A, updater.B} {
			p := part{label: slotLabel(slot, r.Name), typ: r.Type, size: r.Size}
			if slot == updater.A {
				p.fill = func(ctx context.Context, f *os.File, p part) error { return fillImage(ctx, f, p, r.A) }
			}
			parts = append(parts, p)
		}
	}
	parts = append(parts, part{label: stateLabel, typ: string(gpt.LinuxFilesystem), size: s.StateSize, fill: s.fillState})
	end := int64(mib)
	for i := range parts {
		parts[i].start = end
		end += parts[i].size
	}
	end += mib // the backup table
	if s.Size == 0 {
		return parts, end, nil
	}
	if s.Size < end {
		return nil, 0, fmt.Errorf("cannot fit the partitions into a disk of %d bytes: they need %d", s.Size, end)
	}
	parts[len(parts)-1].size += s.Size - end
	return parts, s.Size, nil
}

// Check says what about s makes no sense: what Build would refuse whatever the files hold.
func (s Spec) Check() error {
	if err := placeable(s.State); err != nil {
		return err
	}
	s, err := s.withDefaults()
	if err != nil {
		return err
	}
	_, _, err = s.plan()
	return err
}

// Build writes the image to path, sparse. What was there before is replaced only when everything went well.
func Build(ctx context.Context, s Spec, path string) error {
	if err := s.Check(); err != nil {
		return err
	}
	s, err := s.withDefaults()
	if err != nil {
		return err
	}
	parts, size, err := s.plan()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("cannot build %s: %w", path, err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := s.build(ctx, f, parts, size); err != nil {
		return fmt.Errorf("cannot build %s: %w", path, err)
	}
	if err := errors.Join(f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("cannot build %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("cannot build %s: %w", path, err)
	}
	return nil
}

func (s Spec) build(ctx context.Context, f *os.File, parts []part, size int64) error {
	if err := f.Truncate(size); err != nil {
		return err
	}
	if err := s.writeTable(f, parts, size); err != nil {
		return fmt.Errorf("partition table: %w", err)
	}
	for _, p := range parts {
		if p.fill == nil {
			continue
		}
		if err := p.fill(ctx, f, p); err != nil {
			return fmt.Errorf("partition %s: %w", p.label, err)
		}
	}
	return nil
}

func (s Spec) fillESP(ctx context.Context, f *os.File, p part) error {
	files := make([]fat.File, len(s.ESP))
	for i, x := range s.ESP {
		files[i] = fat.File{Path: x.Path, Size: x.Size}
		if x.Open != nil {
			files[i].Open = x.checked
		}
	}
	serial := sha256.Sum256([]byte(s.guid(espLabel)))
	_, err := fat.Volume{
		Size: p.size, SectorSize: s.SectorSize, Hidden: uint32(p.start / int64(s.SectorSize)), Label: "ESP",
		Serial: binary.LittleEndian.Uint32(serial[:]), Time: s.Time, Files: files,
	}.Write(&sparseWriter{ctx: ctx, f: f, off: p.start, end: p.start + p.size})
	return err
}

func fillImage(ctx context.Context, f *os.File, p part, c Content) error {
	if c.Open == nil {
		return nil
	}
	r, err := c.checked()
	if err != nil {
		return err
	}
	defer r.Close()
	w := &sparseWriter{ctx: ctx, f: f, off: p.start, end: p.start + p.size}
	n, err := io.CopyBuffer(writerOnly{w}, readerOnly{r}, make([]byte, mib))
	if err != nil {
		return err
	}
	if n != c.Size {
		return fmt.Errorf("the image has %d bytes, not %d", n, c.Size)
	}
	return nil
}
