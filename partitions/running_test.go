package partitions

import (
	"testing"

	"github.com/evenkeel-os/evenkeel/updater"
)

func TestRunning(t *testing.T) {
	const rootB = "22 1 259:3 / / ro - ext4 /dev/root ro"
	for _, tt := range []struct {
		name string
		set  func(m *machine)
		want updater.Slot
		err  []string // words of the error
	}{
		{name: "slot a", set: func(*machine) {}, want: updater.A},
		{name: "slot b", set: func(m *machine) { m.boots("b") }, want: updater.B},
		{name: "PARTUUID in capitals", want: updater.A, set: func(m *machine) {
			m.cmdline("root=PARTUUID=AAAAAAAA-0000-4000-8000-000000000001 evenkeel.slot=a")
		}},
		{name: "PARTLABEL", set: func(m *machine) { m.cmdline("root=PARTLABEL=root-a evenkeel.slot=a") }, want: updater.A},
		{name: "no root=", set: func(m *machine) { m.cmdline("evenkeel.slot=a") }, want: updater.A},
		{name: "the same slot twice", set: func(m *machine) { m.cmdline("evenkeel.slot=a quiet evenkeel.slot=a") }, want: updater.A},
		{name: "what follows -- is for init", set: func(m *machine) { m.cmdline("evenkeel.slot=a -- evenkeel.slot=b") }, want: updater.A},
		{name: "quotes", set: func(m *machine) { m.cmdline(`dyndbg="file a +p" "evenkeel.slot=a"`) }, want: updater.A},
		{name: "the last mount at / covers the others", want: updater.B, set: func(m *machine) {
			m.boots("b")
			m.mounts("1 1 0:2 / / rw - rootfs rootfs rw", "22 1 259:2 / / ro - ext4 /dev/root ro", rootB)
		}},
		{name: "device mapper over data and hashes", want: updater.A, set: func(m *machine) {
			m.mounts("22 1 253:0 / / ro - ext4 /dev/mapper/root ro")
			m.device("253:0", "DEVNAME=dm-0\nDEVTYPE=disk\n")
			m.write("sys/dev/block/253:0/slaves/vda2/dev", "259:2\n")
			m.write("sys/dev/block/253:0/slaves/vda5/dev", "259:5\n")
			m.device("259:5", "DEVNAME=vda5\nPARTN=5\n")
		}},
		{name: "PARTUUID in uevent counts for more than PARTN", want: updater.A, set: func(m *machine) {
			m.device("259:2", "DEVNAME=sdb7\nPARTN=7\nPARTUUID="+guidRootA+"\n")
		}},
		{name: "root below an overlay", want: updater.A, set: func(m *machine) {
			m.mounts("21 1 259:2 / /run/slot ro - ext4 /dev/vda2 ro", "22 1 0:30 / / rw - overlay overlay rw")
			m.o.RootMount = "/run/slot"
		}},

		{name: "no evenkeel.slot", set: func(m *machine) { m.cmdline("root=PARTUUID=" + guidRootA) }, err: []string{"does not say evenkeel.slot", "boot entry"}},
		{name: "unknown slot", set: func(m *machine) { m.cmdline("evenkeel.slot=c") }, err: []string{"evenkeel.slot=c", "want a or b"}},
		{name: "both slots", set: func(m *machine) { m.cmdline("evenkeel.slot=b evenkeel.slot=a") }, err: []string{"a and b"}},
		{name: "the command line lies", set: func(m *machine) { m.cmdline("evenkeel.slot=b") }, err: []string{"evenkeel.slot=b", `partition 2 ("root-a")`, "slot a"}},
		{name: "the device lies", set: func(m *machine) { m.mounts(rootB) }, err: []string{"evenkeel.slot=a", `("root-b")`}},
		{name: "root= names the other slot", set: func(m *machine) {
			m.cmdline("root=PARTUUID=" + guidRootB + " evenkeel.slot=a")
		}, err: []string{guidRootB, "not a partition of slot a"}},
		{name: "root= names nothing", set: func(m *machine) {
			m.cmdline("root=PARTUUID=cccccccc-0000-4000-8000-000000000001 evenkeel.slot=a")
		}, err: []string{"has no partition PARTUUID=cccccccc", `2 "root-a"`}},
		{name: "UUID=", set: func(m *machine) { m.cmdline("root=UUID=1234 evenkeel.slot=a") }, err: []string{"root=UUID=1234", "use root=PARTUUID="}},
		{name: "LABEL=", set: func(m *machine) { m.cmdline("root=LABEL=os evenkeel.slot=a") }, err: []string{"use root=PARTUUID="}},
		{name: "runs from the state partition", set: func(m *machine) {
			m.mounts("22 1 259:4 / / ro - ext4 /dev/root ro")
		}, err: []string{"259:4", "vda4", "no partition of slot a or b", `4 "state"`}},
		{name: "runs from another disk", set: func(m *machine) {
			m.mounts("22 1 8:1 / / ro - ext4 /dev/sda1 ro")
			m.device("8:1", "DEVNAME=sda1\nPARTN=1\nPARTUUID=12345678-0000-4000-8000-000000000001\n")
		}, err: []string{"sda1", "no partition of slot a or b"}},
		{name: "over both slots", set: func(m *machine) {
			m.mounts("22 1 253:0 / / ro - ext4 /dev/mapper/root ro")
			m.device("253:0", "DEVNAME=dm-0\n")
			m.write("sys/dev/block/253:0/slaves/vda2/dev", "259:2")
			m.write("sys/dev/block/253:0/slaves/vda3/dev", "259:3")
		}, err: []string{"both slots"}},
		{name: "overlay", set: func(m *machine) {
			m.mounts("22 1 0:30 / / rw - overlay overlay rw")
		}, err: []string{"overlay", "say in the configuration"}},
		{name: "nothing at /", set: func(m *machine) { m.mounts() }, err: []string{"nothing is mounted at /"}},
		{name: "sysfs does not know the device", set: func(m *machine) {
			m.mounts("22 1 77:7 / / ro - ext4 /dev/root ro")
		}, err: []string{"77:7"}},
		{name: "mountinfo is nonsense", set: func(m *machine) { m.write("proc/self/mountinfo", "hello\n") }, err: []string{"bad line", "hello"}},
		{name: "no disk", set: func(m *machine) { m.o.Disk = "/nonexistent/disk" }, err: []string{"/nonexistent/disk"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t, 512)
			tt.set(m)
			got, err := m.slots().Running()
			if tt.err != nil {
				wantError(t, err, tt.err...)
				if got != updater.NoSlot {
					t.Errorf("slot %q beside the error", got)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("Running() = %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestOwnTreeIsNotBelievedByNumberAlone(t *testing.T) {
	m := newMachine(t, 512)
	s := m.slots()
	s.o.Root = "/" // the real tree: PARTN of some other disk says nothing about an image file
	d, err := s.openDisk()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.slotMounted(d); err == nil {
		t.Error("a partition number alone was believed")
	}
}
