// Package partitions finds the slots on a disk and gives access to them. It implements updater.Slots.
//
// A slot is a row of places, one for each role. A place is either a GPT partition, filled by an image from its first
// byte, or a directory of a mounted EFI system partition, in which the image is a file:
//
//	disk   1 esp       evenkeel/a/{vmlinuz,initrd.img,boot.cfg}   evenkeel/b/{...}
//	       2 root-a    the image of role "root" in slot a
//	       3 root-b    the image of role "root" in slot b
//	       4 state     what survives updates; never a place of a slot
//
// The disk is a block device, or a file that holds a disk image, with sectors of 512 or 4096 bytes. Places are declared,
// never guessed, and compared with what is there each time one is opened. Everything that may be in use is compared as
// ranges of bytes on the disk: a mounted partition, swap, a device mapper or loop device over it all claim a range, and a
// place that touches a claimed range is refused.
//
// Which slot runs is what the kernel command line says (evenkeel.slot=) and what the device under / says. Where the two
// do not agree nothing is opened for writing.
//
// Partitions are written with direct I/O where the device allows it, so that neither the page cache of the running system
// suffers nor a later read can be answered from it.
package partitions

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/updater"
)

// Options says where the slots of this machine are.
type Options struct {
	// Root is the directory below which proc, sys and dev of the host are read. Empty: "/". In any other tree a device
	// counts as a partition of Disk when its uevent file says the right PARTUUID, or PARTN alone.
	Root string
	// Disk is the path of a block device or of a disk image file. Empty: the disk of the device under RootMount.
	Disk string
	// SectorSize is 512 or 4096, for disk image files. Empty: found out. Block devices tell it themselves.
	SectorSize int
	// Roles are the roles of each slot. At least one is of release.KindPartition: the running slot is known by it.
	Roles []Role
	// State selects the state partition, which must be no place of a slot. Empty: there is none on this disk.
	State Selector
	// StateDir is the directory that the agent keeps its state in. It must not be on a slot. Empty: not checked.
	StateDir string
	// ESP is where the EFI system partition is mounted. It must be a mount point before a file role is written.
	// Empty: the directories of the file roles are taken as they are.
	ESP string
	// RootMount is where the root file system of the running slot is mounted. Empty: "/". It differs where / is an
	// overlay over it.
	RootMount string
}

// Role is one role and its places in both slots.
type Role struct {
	Name release.Role
	Kind release.Kind
	A, B Place
}

// Place is where the image of a role lives in one slot.
type Place struct {
	Partition Selector // release.KindPartition
	Dir       string   // release.KindFile: absolute path, e.g. "/efi/evenkeel/a"
}

// Place returns the place of s.
func (r Role) Place(s updater.Slot) Place {
	if s == updater.B {
		return r.B
	}
	return r.A
}

// Slots is the disk of one machine. It holds nothing open; every method looks again.
type Slots struct {
	o    Options
	host host
}

var _ updater.Slots = (*Slots)(nil)

// New checks the options by themselves. It does not look at the disk; Check does.
func New(o Options) (*Slots, error) {
	if o.Root == "" {
		o.Root = "/"
	}
	if o.RootMount == "" {
		o.RootMount = "/"
	}
	if o.SectorSize != 0 && o.SectorSize != 512 && o.SectorSize != 4096 {
		return nil, fmt.Errorf("cannot use sector size %d: want 512 or 4096", o.SectorSize)
	}
	if err := checkRoles(o.Roles); err != nil {
		return nil, err
	}
	return &Slots{o: o, host: host{root: o.Root}}, nil
}

func checkRoles(roles []Role) error {
	seen := map[release.Role]bool{}
	partitions := 0
	for _, r := range roles {
		if seen[r.Name] || r.Name == "" {
			return fmt.Errorf("cannot use role %q: it is declared twice, or has no name", r.Name)
		}
		seen[r.Name] = true
		if err := r.check(); err != nil {
			return fmt.Errorf("cannot use role %q: %w", r.Name, err)
		}
		if r.Kind == release.KindPartition {
			partitions++
		}
	}
	if partitions == 0 {
		return errors.New("cannot tell which slot runs without a role that is a partition: declare one, usually \"root\"")
	}
	return nil
}

func (r Role) check() error {
	switch r.Kind {
	case release.KindPartition:
		if r.A.Partition == r.B.Partition {
			return fmt.Errorf("both slots name %s: each slot needs a partition of its own", r.A.Partition)
		}
		return errors.Join(r.A.Partition.check(), r.B.Partition.check())
	case release.KindFile:
		if !filepath.IsAbs(r.A.Dir) || !filepath.IsAbs(r.B.Dir) {
			return fmt.Errorf("its directories %q and %q must be absolute paths", r.A.Dir, r.B.Dir)
		}
		if filepath.Clean(r.A.Dir) == filepath.Clean(r.B.Dir) {
			return fmt.Errorf("both slots name directory %s: each slot needs one of its own", r.A.Dir)
		}
		return nil
	}
	return fmt.Errorf("kind %q is not known: want %q or %q", r.Kind, release.KindPartition, release.KindFile)
}

func (s *Slots) role(name release.Role) (Role, error) {
	var known []string
	for _, r := range s.o.Roles {
		if r.Name == name {
			return r, nil
		}
		known = append(known, string(r.Name))
	}
	return Role{}, fmt.Errorf("role %q is not part of this machine's layout (%s)", name, strings.Join(known, ", "))
}

// PartUUID returns the unique GUID of the partition of a role in a slot, in lower case as the kernel and the boot loader
// write it. It is an error for a role of another kind.
func (s *Slots) PartUUID(slot updater.Slot, role release.Role) (string, error) {
	d, err := s.openDisk()
	if err != nil {
		return "", err
	}
	r, err := s.role(role)
	if err != nil {
		return "", fmt.Errorf("cannot tell the partition of slot %s: %w", slot, err)
	}
	if r.Kind != release.KindPartition {
		return "", fmt.Errorf("cannot tell the partition of role %q in slot %s: it is a file", role, slot)
	}
	p, err := d.find(r.Place(slot).Partition)
	if err != nil {
		return "", fmt.Errorf("cannot find role %q of slot %s: %w", role, slot, err)
	}
	return p.PartUUID, nil
}

// Base implements updater.Slots. It reads through the page cache, no further than the image goes.
func (s *Slots) Base(slot updater.Slot, im release.Image) (updater.ReaderAtCloser, error) {
	t, err := s.open(slot, im, reading)
	if err != nil {
		return nil, fmt.Errorf("cannot read role %q of slot %s: %w", im.Role, slot, err)
	}
	return t, nil
}

// Target implements updater.Slots. Besides what the port asks for, it refuses places that are not what the options and
// the release say, read-only devices, and layouts in which slots overlap with each other or with the state partition.
func (s *Slots) Target(slot updater.Slot, im release.Image) (updater.TargetCloser, error) {
	run, err := s.Running()
	if err != nil {
		return nil, fmt.Errorf("cannot write role %q of slot %s: %w", im.Role, slot, err)
	}
	if run == slot {
		return nil, fmt.Errorf("cannot write role %q of slot %s: this system runs from it", im.Role, slot)
	}
	t, err := s.open(slot, im, writing)
	if err != nil {
		return nil, fmt.Errorf("cannot write role %q of slot %s: %w", im.Role, slot, err)
	}
	return t, nil
}

type purpose int8

const (
	reading purpose = iota
	writing
)

func (s *Slots) open(slot updater.Slot, im release.Image, p purpose) (updater.TargetCloser, error) {
	if slot != updater.A && slot != updater.B {
		return nil, fmt.Errorf("there is no slot %q", slot)
	}
	r, err := s.role(im.Role)
	if err != nil {
		return nil, err
	}
	if r.Kind != im.Kind {
		return nil, fmt.Errorf("the release brings it as a %s, on this machine it is a %s", im.Kind, r.Kind)
	}
	if r.Kind == release.KindFile {
		return s.openFile(r.Place(slot).Dir, im, p)
	}
	return s.openPartition(r.Place(slot).Partition, im, p)
}

func (s *Slots) openPartition(sel Selector, im release.Image, p purpose) (updater.TargetCloser, error) {
	d, err := s.openDisk()
	if err != nil {
		return nil, err
	}
	part, err := d.find(sel)
	if err != nil {
		return nil, err
	}
	if im.Size > part.Size {
		return nil, fmt.Errorf("the image has %d bytes, %s only %d: it needs a larger partition", im.Size, part, part.Size)
	}
	if p == reading {
		return s.openDevice(d, part, im.Size, reading)
	}
	if err := s.mayWrite(d, part); err != nil {
		return nil, err
	}
	return s.openDevice(d, part, part.Size, writing)
}

// mayWrite returns why nobody may write part now.
func (s *Slots) mayWrite(d *disk, part Partition) error {
	if problems := s.layoutProblems(d); len(problems) > 0 {
		return fmt.Errorf("the layout of %s is not safe: %s", d.path, strings.Join(problems, "; "))
	}
	claims, err := s.claims(d)
	if err != nil {
		return err
	}
	for _, c := range claims {
		if c.overlaps(part.extent) {
			return fmt.Errorf("%s is in use: %s; end that first", part, c.what)
		}
	}
	return nil
}
