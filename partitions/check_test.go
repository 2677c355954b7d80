package partitions

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	m := newMachine(t, 4096)
	writeFile(t, m.file("b", "vmlinuz"), "12345")
	l := m.slots().Check()
	if err := l.Err(); err != nil {
		t.Fatal(err)
	}
	if l.Disk != m.disk || l.Running != "a" || l.SectorSize != 4096 || l.Size != 16*mib || len(l.Places) != 4 || len(l.Warnings) != 0 {
		t.Errorf("%+v", l)
	}
	rootA, kernelB := l.Places[0], l.Places[3]
	if !rootA.Running || rootA.InUse != "it is mounted at /" || rootA.Partition.PartUUID != guidRootA || rootA.Size != 4*mib || rootA.Path != m.disk {
		t.Errorf("%+v", rootA)
	}
	if kernelB.Slot != "b" || kernelB.Role != "kernel" || kernelB.Size != 5 || kernelB.Free <= 0 || kernelB.Running {
		t.Errorf("%+v", kernelB)
	}
	text, err := json.Marshal(l)
	if err != nil || !strings.Contains(string(text), `"start":3145728`) {
		t.Errorf("%s, %v", text, err)
	}
}

func TestCheckReportsEverythingAtOnce(t *testing.T) {
	m := newMachine(t, 512)
	e := standardEntries()
	e[2].label = "lost"
	writeDisk(t, m.disk, 512, 16*mib, e)
	m.cmdline("quiet")
	m.o.StateDir, m.o.ESP = "/var/lib/evenkeel", m.esp
	f, err := os.OpenFile(m.disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, 512), 512); err != nil {
		t.Fatal(err)
	}
	l := m.slots().Check()
	wantError(t, l.Err(), "does not say evenkeel.slot", "PARTLABEL=root-b", "the state directory", "no EFI system partition is mounted")
	if len(l.Warnings) != 1 || !strings.Contains(l.Warnings[0], "backup is used") {
		t.Errorf("warnings: %q", l.Warnings)
	}
}

func TestCheckWithoutDisk(t *testing.T) {
	m := newMachine(t, 512)
	m.o.Disk = "/nonexistent"
	wantError(t, m.slots().Check().Err(), "/nonexistent")
}

func TestCheckSeesTheOtherSlotMounted(t *testing.T) {
	m := newMachine(t, 512)
	m.mounts("22 1 259:2 / / ro - ext4 /dev/root ro", "23 22 259:3 / /mnt ro - ext4 /dev/vda3 ro")
	wantError(t, m.slots().Check().Err(), `role "root" of slot b`, "mounted at /mnt")
}
