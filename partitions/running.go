package partitions

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/updater"
)

// partitionPlace is one place of kind partition.
type partitionPlace struct {
	slot     updater.Slot
	role     release.Role
	selector Selector
}

func (s *Slots) partitionPlaces() (all []partitionPlace) {
	for _, slot := range []updater.Slot{updater.A, updater.B} {
		for _, r := range s.o.Roles {
			if r.Kind == release.KindPartition {
				all = append(all, partitionPlace{slot, r.Name, r.Place(slot).Partition})
			}
		}
	}
	return all
}

// Running implements updater.Slots.
func (s *Slots) Running() (updater.Slot, error) {
	words, err := s.host.cmdline()
	if err != nil {
		return updater.NoSlot, fmt.Errorf("cannot tell which slot runs: %w", err)
	}
	said, err := slotSaid(words)
	if err != nil {
		return updater.NoSlot, fmt.Errorf("cannot tell which slot runs: %w", err)
	}
	d, err := s.openDisk()
	if err != nil {
		return updater.NoSlot, fmt.Errorf("cannot tell which slot runs: %w", err)
	}
	mounted, part, err := s.slotMounted(d)
	if err != nil {
		return updater.NoSlot, fmt.Errorf("cannot tell which slot runs: %w", err)
	}
	if said != mounted {
		return updater.NoSlot, fmt.Errorf("cannot tell which slot runs: the command line says evenkeel.slot=%s, but %s is on %s of slot %s: "+
			"the boot entry of slot %s names the wrong root partition", said, s.o.RootMount, part, mounted, said)
	}
	if err := s.checkRoot(d, words, said); err != nil {
		return updater.NoSlot, fmt.Errorf("cannot trust the boot entry of slot %s: %w", said, err)
	}
	return said, nil
}

// slotSaid reads evenkeel.slot= of the command line.
func slotSaid(words []string) (updater.Slot, error) {
	said := values(words, "evenkeel.slot")
	if len(said) == 0 {
		return updater.NoSlot, errors.New("the kernel command line does not say evenkeel.slot=a or evenkeel.slot=b: " +
			"this system was not started by a boot entry of ours")
	}
	slices.Sort(said)
	said = slices.Compact(said)
	slot := updater.Slot(said[0])
	if len(said) > 1 || slot != updater.A && slot != updater.B {
		return updater.NoSlot, fmt.Errorf("the kernel command line says evenkeel.slot=%s: want a or b, once", strings.Join(said, " and "))
	}
	return slot, nil
}

// slotMounted returns the slot whose partition holds the root file system. What lies below a device mapper device may be
// several partitions (data and hashes); they must be of one slot.
func (s *Slots) slotMounted(d *disk) (updater.Slot, Partition, error) {
	devs, err := s.host.devicesUnder(s.o.RootMount)
	if err != nil {
		return updater.NoSlot, Partition{}, err
	}
	var slot updater.Slot
	var part Partition
	for _, x := range devs {
		on, ok := s.on(d, x)
		if !ok {
			continue
		}
		for _, pl := range s.partitionPlaces() {
			p, err := d.find(pl.selector)
			if err != nil || !p.contains(on) {
				continue
			}
			if slot != updater.NoSlot && slot != pl.slot {
				return updater.NoSlot, Partition{}, fmt.Errorf("%s is on both slots: %s and %s", s.o.RootMount, part, p)
			}
			slot, part = pl.slot, p
		}
	}
	if slot == updater.NoSlot {
		return updater.NoSlot, Partition{}, fmt.Errorf("%s is on %s, which is no partition of slot a or b on disk %s (%s)",
			s.o.RootMount, deviceNames(devs), d.path, d.names())
	}
	return slot, part, nil
}

func deviceNames(devs []device) string {
	names := make([]string, len(devs))
	for i, x := range devs {
		names[i] = "device " + x.dev.String()
		if n := x.uevent["DEVNAME"]; n != "" {
			names[i] += " (" + n + ")"
		}
	}
	return strings.Join(names, " and ")
}

// checkRoot compares root= of the command line with the partitions of slot. Other spellings (none, /dev/...) are left to
// the device that is really mounted.
func (s *Slots) checkRoot(d *disk, words []string, slot updater.Slot) error {
	for _, root := range values(words, "root") {
		key, value, _ := strings.Cut(root, "=")
		var sel Selector
		switch key {
		case "PARTUUID":
			sel.PartUUID = value
		case "PARTLABEL":
			sel.Label = value
		case "UUID", "LABEL":
			return fmt.Errorf("it says root=%s, which the images of both slots may share: use root=PARTUUID=", root)
		default:
			continue
		}
		p, err := d.find(sel)
		if err != nil {
			return fmt.Errorf("it says root=%s: %w", root, err)
		}
		if !s.belongs(d, p, slot) {
			return fmt.Errorf("it says root=%s, which is %s, not a partition of slot %s", root, p, slot)
		}
	}
	return nil
}

func (s *Slots) belongs(d *disk, p Partition, slot updater.Slot) bool {
	for _, pl := range s.partitionPlaces() {
		if x, err := d.find(pl.selector); err == nil && pl.slot == slot && x.Number == p.Number {
			return true
		}
	}
	return false
}
