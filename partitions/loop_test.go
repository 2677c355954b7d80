package partitions

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/evenkeel-os/evenkeel/updater"
)

// loopMachine is a machine whose disk is a loop device. Only proc is made up; sys and dev are the host's own.
type loopMachine struct {
	*machine
	dev  string // /dev/loopN
	name string
}

// newLoopMachine attaches a disk image. With scan the kernel knows the partitions, as it does on real disks.
func newLoopMachine(t *testing.T, sector int, scan bool) *loopMachine {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("loop devices need root")
	}
	m := newMachine(t, sector)
	out, err := exec.Command("losetup", "--find", "--show", "--sector-size", strconv.Itoa(sector), m.disk).CombinedOutput()
	if err != nil {
		t.Skipf("no loop devices here: %v: %s", err, out)
	}
	l := &loopMachine{machine: m, dev: strings.TrimSpace(string(out))}
	l.name = filepath.Base(l.dev)
	t.Cleanup(func() { l.run("losetup", "--detach", l.dev) })
	if len(children("/sys/block/"+l.name)) > 0 { // left by a test that was killed
		l.run("partx", "--delete", l.dev)
	}
	if scan {
		l.run("partx", "--add", l.dev)
		t.Cleanup(func() { l.run("partx", "--delete", l.dev) })
	}
	l.o.Disk = l.dev
	if err := os.RemoveAll(filepath.Join(l.root, "sys")); err != nil {
		t.Fatal(err)
	}
	l.link("/dev", "dev")
	l.link("/sys/block/"+l.name, "sys/dev/block/"+readAttr("/sys/block/"+l.name, "dev"))
	if !scan {
		l.device("259:902", "DEVNAME=fake2\nPARTN=2\n")
		l.mounts("22 1 259:902 / / ro - ext4 /dev/root ro")
		return l
	}
	for i := range 4 {
		part := fmt.Sprintf("/sys/block/%s/%sp%d", l.name, l.name, i+1)
		l.link(part, "sys/dev/block/"+readAttr(part, "dev"))
	}
	l.mounts("22 1 " + l.partDev(2) + " / / ro - ext4 /dev/root ro")
	return l
}

func (l *loopMachine) partDev(n int) string {
	return readAttr(fmt.Sprintf("/sys/block/%s/%sp%d", l.name, l.name, n), "dev")
}

func (l *loopMachine) link(to, name string) {
	l.t.Helper()
	path := filepath.Join(l.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.Symlink(to, path); err != nil {
		l.t.Fatal(err)
	}
}

func (l *loopMachine) run(name string, args ...string) {
	l.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		l.t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

func TestLoopDevice(t *testing.T) {
	for _, sector := range []int{512, 4096} {
		for _, scan := range []bool{true, false} {
			t.Run(fmt.Sprintf("sectors of %d, scanned %v", sector, scan), func(t *testing.T) {
				l := newLoopMachine(t, sector, scan)
				noise(t, l.dev, 3*mib, 9*mib)
				s := l.slots()
				if run, err := s.Running(); run != "a" || err != nil {
					t.Fatalf("running %q, %v", run, err)
				}
				fillSlot(t, s, l.dev)
				if l := s.Check(); l.Err() != nil || l.SectorSize != sector {
					t.Errorf("check: %v, sectors of %d", l.Err(), l.SectorSize)
				}
			})
		}
	}
}

// fillSlot writes slot b and compares the whole disk before and after, through the device below.
func fillSlot(t *testing.T, s *Slots, dev string) {
	t.Helper()
	want := fileBytes(t, dev)
	target, err := s.Target("b", rootImage(4*mib))
	if err != nil {
		t.Fatal(err)
	}
	image := bytes.Repeat([]byte("evenkeel"), mib/8)
	image = append(image, "tail"...)
	if _, err := target.WriteAt(image, 0); err != nil {
		t.Fatal(err)
	}
	if err := target.Zero(2*mib+100, mib); err != nil {
		t.Fatal(err)
	}
	if err := target.Sync(); err != nil {
		t.Fatal(err)
	}
	copy(want[7*mib:], image)
	clear(want[9*mib+100:][:mib])
	again, err := target.Reread()
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4*mib)
	if _, err := again.ReadAt(got, 0); err != nil || !bytes.Equal(got, want[7*mib:11*mib]) {
		t.Errorf("read back: %v, right %v", err, bytes.Equal(got, want[7*mib:11*mib]))
	}
	if err := target.Close(); err != nil {
		t.Error(err)
	}
	if got := fileBytes(t, dev); !bytes.Equal(got, want) {
		t.Errorf("the disk differs from byte %d", firstDifference(got, want))
	}
}

// TestRereadSeesTheDevice changes the bytes below the page cache: only a reader that goes to the device may see it.
func TestRereadSeesTheDevice(t *testing.T) {
	for _, direct := range []bool{true, false} {
		l := newLoopMachine(t, 512, true)
		got, err := l.slots().Target("b", rootImage(mib))
		if err != nil {
			t.Fatal(err)
		}
		target := got.(*target)
		if !direct {
			target.align = 0 // as on a device that cannot do direct I/O
			target.broken.Store(true)
		}
		if _, err := target.WriteAt(bytes.Repeat([]byte("A"), mib), 0); err != nil {
			t.Fatal(err)
		}
		if err := target.Sync(); err != nil {
			t.Fatal(err)
		}
		noise(t, l.disk, 7*mib+8192, 512)
		again, err := target.Reread()
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 512)
		if _, err := again.ReadAt(b, 8192); err != nil || bytes.Equal(b, bytes.Repeat([]byte("A"), 512)) {
			t.Errorf("direct %v: what the device lost was read from a cache (%v)", direct, err)
		}
		target.Close()
	}
}

func TestLoopRefusals(t *testing.T) {
	t.Run("mounted, seen in mountinfo", func(t *testing.T) {
		l := newLoopMachine(t, 512, true)
		l.mounts("22 1 "+l.partDev(2)+" / / ro - ext4 /dev/root ro", "30 22 "+l.partDev(3)+" / /mnt rw - ext4 x rw")
		wantError(t, refusal(l.slots()), `("root-b")`, "mounted at /mnt")
	})
	t.Run("mounted, not seen in mountinfo", func(t *testing.T) {
		l := newLoopMachine(t, 512, true)
		node, dir := l.dev+"p3", t.TempDir()
		l.run("mkfs.ext4", "-q", node)
		if out, err := exec.Command("mount", "-t", "ext4", node, dir).CombinedOutput(); err != nil {
			t.Skipf("cannot mount here: %s", out)
		}
		defer l.run("umount", dir)
		wantError(t, refusal(l.slots()), `("root-b")`, "is in use", "the kernel holds")
	})
	t.Run("swapped to", func(t *testing.T) {
		l := newLoopMachine(t, 512, true)
		l.write("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n"+l.dev+"p3\tpartition\t4092\t0\t-2\n")
		wantError(t, refusal(l.slots()), "swapped to")
	})
	t.Run("read-only", func(t *testing.T) {
		l := newLoopMachine(t, 512, true)
		l.run("blockdev", "--setro", l.dev+"p3")
		defer l.run("blockdev", "--setrw", l.dev+"p3")
		wantError(t, refusal(l.slots()), "read-only", "--setrw")
	})
	t.Run("the kernel knows another table", func(t *testing.T) {
		l := newLoopMachine(t, 512, true)
		l.o.State = Selector{}
		changed := standardEntries()
		changed[2].size -= mib
		l.rewriteTable(changed)
		wantError(t, refusal(l.slots()), "the kernel sees", "partprobe")
		wantError(t, l.slots().Check().Err(), "the kernel sees")
	})
	t.Run("the kernel does not know the partition", func(t *testing.T) {
		l := newLoopMachine(t, 512, true)
		l.run("partx", "--delete", "--nr", "3", l.dev)
		defer l.run("partx", "--add", "--nr", "3", l.dev)
		wantError(t, refusal(l.slots()), "does not know partition 3", "partprobe")
	})
	t.Run("table for other sectors", func(t *testing.T) {
		l := newLoopMachine(t, 4096, false)
		writeDisk(t, l.disk, 512, 16*mib, standardEntries())
		l.run("blockdev", "--flushbufs", l.dev)
		wantError(t, refusal(l.slots()), "made for sectors of 512 bytes, its sectors have 4096")
	})
}

func refusal(s *Slots) error {
	target, err := s.Target("b", rootImage(mib))
	if err == nil {
		target.Close()
	}
	return err
}

func (l *loopMachine) rewriteTable(entries []entry) {
	l.t.Helper()
	f, err := os.OpenFile(l.dev, os.O_RDWR, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	defer f.Close()
	writeTable(l.t, f, 512, 16*mib, entries)
}

// TestDiskFound lets the disk of the running system be found by itself.
func TestDiskFound(t *testing.T) {
	l := newLoopMachine(t, 512, true)
	l.o.Disk = ""
	s := l.slots()
	if run, err := s.Running(); run != updater.A || err != nil {
		t.Errorf("running %q, %v", run, err)
	}
	if got := s.Check().Disk; filepath.Base(got) != l.name {
		t.Errorf("found disk %s, want %s", got, l.dev)
	}
	l.mounts("22 1 0:30 / / rw - overlay overlay rw")
	_, err := s.Running()
	wantError(t, err, "cannot find the disk", "overlay")
}
