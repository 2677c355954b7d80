package partitions

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// claim is a range of the disk that somebody uses, and how.
type claim struct {
	extent
	what string
}

// claims returns every range of d that is mounted, swapped to, or held by a device above it.
func (s *Slots) claims(d *disk) ([]claim, error) {
	ms, err := s.host.mounts()
	if err != nil {
		return nil, err
	}
	var cs []claim
	for _, m := range ms {
		dev, err := s.host.mountDev(m)
		if err != nil {
			continue // proc, tmpfs and the like
		}
		cs = append(cs, s.claim(d, dev, "it is mounted at "+m.point)...)
	}
	swaps, err := s.host.swaps()
	if err != nil {
		return nil, err
	}
	for _, dev := range swaps {
		cs = append(cs, s.claim(d, dev, "it is swapped to")...)
	}
	return append(cs, s.held(d)...), nil
}

// claim returns the ranges of d that dev consists of.
func (s *Slots) claim(d *disk, dev devNo, what string) (cs []claim) {
	devs, err := s.host.below(dev)
	if err != nil {
		return nil // not a block device that sysfs knows, so nothing on d
	}
	for _, x := range devs {
		if e, ok := s.on(d, x); ok {
			cs = append(cs, claim{extent: e, what: what})
		}
	}
	return cs
}

// held returns the ranges of d that other devices were built on: device mapper, RAID.
func (s *Slots) held(d *disk) (cs []claim) {
	if !d.block {
		return nil
	}
	base, err := s.host.device(d.dev)
	if err != nil {
		return nil
	}
	for _, dir := range append(children(base.dir), base.dir) {
		holders, _ := os.ReadDir(filepath.Join(dir, "holders"))
		dev, err := parseDev(readAttr(dir, "dev"))
		if err != nil || len(holders) == 0 {
			continue
		}
		x, err := s.host.device(dev)
		if err != nil {
			continue
		}
		if e, ok := s.on(d, x); ok {
			cs = append(cs, claim{extent: e, what: "device " + holders[0].Name() + " is built on it"})
		}
	}
	return cs
}

// children returns the sysfs directories of the partitions that the kernel sees on the disk with directory dir.
func children(dir string) (dirs []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		sub := filepath.Join(dir, e.Name())
		if _, err := os.Stat(filepath.Join(sub, "partition")); err == nil {
			dirs = append(dirs, sub)
		}
	}
	return dirs
}

// on returns the range of d that device x is, or false when x is not on d.
func (s *Slots) on(d *disk, x device) (extent, bool) {
	if d.block && x.dev == d.dev {
		return extent{Size: d.size}, true
	}
	if e, ok := s.loopOn(d, x); ok {
		return e, true
	}
	if d.block && x.parent != "" {
		if e, ok := x.sysExtent(); ok && readAttr(x.parent, "dev") == d.dev.String() {
			return e, true
		}
		return extent{}, false
	}
	return s.told(d, x)
}

// loopOn finds loop devices, and partitions of loop devices, over a disk image file.
func (s *Slots) loopOn(d *disk, x device) (extent, bool) {
	loop := x.dir
	if x.parent != "" {
		loop = x.parent
	}
	backing := readAttr(loop, "loop/backing_file")
	if backing == "" || d.block {
		return extent{}, false
	}
	info, err := os.Stat(s.host.path(backing))
	e, ok := x.sysExtent()
	if err != nil || !ok || !os.SameFile(info, d.info) {
		return extent{}, false
	}
	offset, _ := strconv.ParseInt(readAttr(loop, "loop/offset"), 10, 64)
	e.Start += offset
	return e, true
}

// told believes a uevent file that names the partition, in a tree that is not the host's own: there the devices are made
// up, and their numbers mean nothing.
func (s *Slots) told(d *disk, x device) (extent, bool) {
	if filepath.Clean(s.o.Root) == "/" {
		return extent{}, false
	}
	if guid := x.uevent["PARTUUID"]; guid != "" {
		p, err := d.find(Selector{PartUUID: guid})
		return p.extent, err == nil
	}
	n, err := strconv.Atoi(x.uevent["PARTN"])
	if err != nil {
		return extent{}, false
	}
	p, ok := d.number(n)
	return p.extent, ok
}

// layoutProblems returns what is wrong with the declared places, one sentence each: missing, overlapping with each other,
// or with what holds the state.
func (s *Slots) layoutProblems(d *disk) (problems []string) {
	type used struct {
		Partition
		what string
	}
	var all []used
	for _, pl := range s.partitionPlaces() {
		p, err := d.find(pl.selector)
		if err != nil {
			problems = append(problems, placeProblem(pl.slot, pl.role, err))
			continue
		}
		all = append(all, used{p, fmt.Sprintf("role %q of slot %s", pl.role, pl.slot)})
	}
	if !s.o.State.IsZero() {
		p, err := d.find(s.o.State)
		if err != nil {
			problems = append(problems, fmt.Sprintf("the state partition: %v", err))
		} else {
			all = append(all, used{p, "the state partition"})
		}
	}
	for i, x := range all {
		for _, y := range all[:i] {
			if x.overlaps(y.extent) {
				problems = append(problems, fmt.Sprintf("%s and %s share bytes: partition %d (%q) and %d (%q)",
					y.what, x.what, y.Number, y.Label, x.Number, x.Label))
			}
		}
	}
	return append(append(problems, s.mountProblems(d)...), s.stateProblems(d)...)
}

// MayKeepState returns an error where the state directory is not on the state partition, so that nothing may be saved there.
func (s *Slots) MayKeepState() error {
	if s.o.State.IsZero() || s.o.StateDir == "" {
		return nil
	}
	d, err := s.openDisk()
	if err != nil {
		return err
	}
	if _, err := d.find(s.o.State); err != nil {
		return fmt.Errorf("cannot find the state partition: %w", err)
	}
	for _, problem := range s.stateProblems(d) {
		return errors.New(problem)
	}
	return nil
}

// stateProblems makes sure that what is saved in the state directory is on the state partition. Without it mounted, the
// directory is still there, and forgets.
func (s *Slots) stateProblems(d *disk) []string {
	if s.o.State.IsZero() || s.o.StateDir == "" {
		return nil
	}
	p, err := d.find(s.o.State)
	if err != nil {
		return nil // told with the other partitions
	}
	ms, err := s.host.mounts()
	if err != nil {
		return nil // told with the mounts
	}
	m, _ := mountOf(ms, s.o.StateDir)
	if dev, err := s.host.mountDev(m); err == nil {
		for _, c := range s.claim(d, dev, "") {
			if p.contains(c.extent) {
				return nil
			}
		}
	}
	return []string{fmt.Sprintf("the state directory %s is on %s (%s), not on %s: mount that there", s.o.StateDir, m.point, m.source, p)}
}

// mountProblems compares, by device number, what is mounted for the agent's own use with the places of the slots.
func (s *Slots) mountProblems(d *disk) (problems []string) {
	ms, err := s.host.mounts()
	if err != nil {
		return []string{err.Error()}
	}
	for _, own := range []struct{ what, dir string }{
		{"the state directory", s.o.StateDir},
		{"the EFI system partition", s.o.ESP},
	} {
		m, ok := mountOf(ms, own.dir)
		dev, err := s.host.mountDev(m)
		if own.dir == "" || !ok || err != nil || own.dir == s.o.ESP && m.point != filepath.Clean(own.dir) {
			continue // an EFI system partition that is not mounted is told where it is needed
		}
		for _, c := range s.claim(d, dev, "") {
			for _, pl := range s.partitionPlaces() {
				if p, err := d.find(pl.selector); err == nil && p.overlaps(c.extent) {
					problems = append(problems, fmt.Sprintf("%s %s lies on slot %s (%s), which updates overwrite: mount its own partition there",
						own.what, own.dir, pl.slot, p))
				}
			}
		}
	}
	return problems
}

// describe joins what the claims on e are, or returns "".
func describe(cs []claim, e extent) string {
	var whats []string
	for _, c := range cs {
		if c.overlaps(e) {
			whats = append(whats, c.what)
		}
	}
	return strings.Join(whats, "; ")
}
