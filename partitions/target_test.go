package partitions

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/updater"
)

func TestTargetRefuses(t *testing.T) {
	image := rootImage(1 * mib)
	for _, tt := range []struct {
		name  string
		set   func(m *machine)
		slot  updater.Slot // default b
		image release.Image
		err   []string
	}{
		{name: "the running slot", slot: "a", set: func(*machine) {}, err: []string{`role "root" of slot a`, "this system runs from it"}},
		{name: "an unknown slot", slot: "c", set: func(*machine) {}, err: []string{`no slot "c"`}},
		{name: "unknown which slot runs", set: func(m *machine) { m.cmdline("evenkeel.slot=b") }, err: []string{"cannot tell which slot runs"}},
		{name: "mounted", set: func(m *machine) {
			m.mounts("22 1 259:2 / / ro - ext4 /dev/root ro", `40 22 259:3 / /mnt/my\040slot rw - ext4 /dev/vda3 rw`)
		}, err: []string{`partition 3 ("root-b")`, "mounted at /mnt/my slot", "end that first"}},
		{name: "below a mounted device mapper device", set: func(m *machine) {
			m.mounts("22 1 259:2 / / ro - ext4 /dev/root ro", "40 22 253:0 / /mnt rw - ext4 /dev/mapper/x rw")
			m.device("253:0", "DEVNAME=dm-0\n")
			m.write("sys/dev/block/253:0/slaves/vda3/dev", "259:3")
		}, err: []string{"mounted at /mnt"}},
		{name: "a loop device over its bytes is mounted", set: func(m *machine) {
			m.mounts("22 1 259:2 / / ro - ext4 /dev/root ro", "40 22 7:0 / /mnt rw - ext4 /dev/loop0 rw")
			m.device("7:0", "DEVNAME=loop0\n")
			m.write("sys/dev/block/7:0/size", "16\n")
			m.write("sys/dev/block/7:0/loop/offset", "8388608\n")
			m.write("sys/dev/block/7:0/loop/backing_file", "/disk.img\n")
			if err := os.Link(m.disk, filepath.Join(m.root, "disk.img")); err != nil {
				m.t.Fatal(err)
			}
		}, err: []string{"mounted at /mnt"}},
		{name: "too small", set: func(*machine) {}, image: rootImage(4*mib + 1), err: []string{"4194305 bytes", "only 4194304", "larger partition"}},
		{name: "a role that is not declared", set: func(*machine) {}, image: release.Image{Role: "verity", Kind: release.KindPartition}, err: []string{`role "verity"`, "root, kernel"}},
		{name: "another kind", set: func(*machine) {}, image: release.Image{Role: "root", Kind: release.KindFile}, err: []string{"brings it as a file", "it is a partition"}},
		{name: "missing partition", set: func(m *machine) {
			e := standardEntries()
			e[2].label = "other"
			writeDisk(m.t, m.disk, 512, 16*mib, e)
		}, err: []string{"no partition PARTLABEL=root-b", `3 "other"`}},
		{name: "a label twice", set: func(m *machine) {
			e := standardEntries()
			e[3].label = "root-b"
			writeDisk(m.t, m.disk, 512, 16*mib, e)
		}, err: []string{"2 partitions PARTLABEL=root-b", "select by PARTUUID"}},
		{name: "overlap with the other slot", set: func(m *machine) {
			e := standardEntries()
			e[2].start -= mib
			writeDisk(m.t, m.disk, 512, 16*mib, e)
		}, err: []string{"share bytes", "root-a", "root-b"}},
		{name: "overlap with the state", set: func(m *machine) {
			e := standardEntries()
			e[2].size += mib
			writeDisk(m.t, m.disk, 512, 16*mib, e)
		}, err: []string{"share bytes", "state"}},
		{name: "one partition for both slots", set: func(m *machine) {
			m.o.Roles[0].B.Partition = Selector{PartUUID: guidRootA}
		}, err: []string{"both slots", "root-a"}},
		{name: "one partition for two roles", set: func(m *machine) {
			second := m.o.Roles[0]
			second.Name, second.A.Partition = "verity", Selector{Label: "esp"}
			m.o.Roles = append(m.o.Roles, second)
		}, err: []string{"share bytes", `role "root" of slot b`, `role "verity" of slot b`}},
		{name: "the state partition is a slot", set: func(m *machine) { m.o.State = Selector{PartUUID: guidRootB} }, err: []string{"the state partition", "share bytes"}},
		{name: "no state partition", set: func(m *machine) { m.o.State = Selector{Label: "gone"} }, err: []string{"the state partition", "no partition PARTLABEL=gone"}},
		{name: "the state directory is on a slot", set: func(m *machine) { m.o.StateDir = "/var/lib/evenkeel" }, err: []string{"state directory /var/lib/evenkeel", "slot a", "mount its own partition"}},
		{name: "the state partition is not mounted", set: func(m *machine) {
			m.o.StateDir = "/var/lib/evenkeel"
			m.mounts("22 1 259:2 / /sysroot ro - ext4 /dev/root ro", "23 22 0:40 / / rw - overlay overlay rw")
			m.o.RootMount = "/sysroot"
		}, err: []string{"state directory /var/lib/evenkeel is on / (overlay)", `not on partition 4 ("state")`}},
		{name: "something else is mounted for the state", set: func(m *machine) {
			m.o.StateDir = "/var/lib/evenkeel"
			m.mounts("22 1 259:2 / / ro - ext4 /dev/root ro", "23 22 259:1 / /var/lib/evenkeel rw - vfat /dev/vda1 rw")
		}, err: []string{"is on /var/lib/evenkeel (/dev/vda1)", `not on partition 4 ("state")`}},
		{name: "no table", set: func(m *machine) {
			if err := os.WriteFile(m.disk, make([]byte, 16*mib), 0o600); err != nil {
				m.t.Fatal(err)
			}
		}, err: []string{"disk.img", "no GUID partition table"}},
		{name: "wrong sector size", set: func(m *machine) { m.o.SectorSize = 4096 }, err: []string{"made for sectors of 512 bytes", "have 4096"}},
		{name: "a directory as disk", set: func(m *machine) { m.o.Disk = m.root }, err: []string{"neither a block device nor a disk image file"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t, 512)
			tt.set(m)
			if tt.slot == "" {
				tt.slot = "b"
			}
			if tt.image.Role == "" {
				tt.image = image
			}
			before := fileBytes(t, m.disk)
			target, err := m.slots().Target(tt.slot, tt.image)
			if err == nil {
				target.Close()
			}
			wantError(t, err, tt.err...)
			if m.o.Disk == m.disk && !bytes.Equal(before, fileBytes(t, m.disk)) {
				t.Error("the refusal changed the disk")
			}
		})
	}
}

func fileBytes(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestStateDirOnItsOwnPartition(t *testing.T) {
	m := newMachine(t, 512)
	m.o.StateDir = "/var/lib/evenkeel"
	m.mounts("22 1 259:2 / / ro - ext4 /dev/root ro", "23 22 259:4 / /var/lib/evenkeel rw - ext4 /dev/vda4 rw")
	target, err := m.slots().Target("b", rootImage(mib))
	if err != nil {
		t.Fatal(err)
	}
	target.Close()
}

func TestSelectors(t *testing.T) {
	for _, tt := range []struct{ a, b string }{
		{"root-a", "root-b"},
		{"PARTLABEL=root-a", "PARTLABEL=root-b"},
		{"PARTUUID=" + guidRootA, "PARTUUID=BBBBBBBB-0000-4000-8000-000000000002"},
		{"PARTTYPE=" + typeRoot + "/1", "PARTTYPE=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709/2"},
	} {
		for _, sector := range []int{512, 4096} {
			m := newMachine(t, sector)
			for i, text := range []string{tt.a, tt.b} {
				sel, err := ParseSelector(text)
				if err != nil {
					t.Fatal(err)
				}
				if again, err := ParseSelector(sel.String()); err != nil || !again.matchesSame(sel) {
					t.Errorf("%q read back: %v, %v", sel, again, err)
				}
				if i == 0 {
					m.o.Roles[0].A.Partition = sel
				} else {
					m.o.Roles[0].B.Partition = sel
				}
			}
			s := m.slots()
			if run, err := s.Running(); run != "a" || err != nil {
				t.Errorf("%s, %d: running %q, %v", tt.a, sector, run, err)
			}
			for slot, want := range map[updater.Slot]string{"a": guidRootA, "b": guidRootB} {
				if got, err := s.PartUUID(slot, "root"); got != want || err != nil {
					t.Errorf("%s, %d: slot %s is %s, %v", tt.a, sector, slot, got, err)
				}
			}
		}
	}
}

func (s Selector) matchesSame(o Selector) bool { return s.String() == o.String() }

func TestSelectorErrors(t *testing.T) {
	for text, words := range map[string][]string{
		"UUID=1234":                   {"use PARTLABEL= or PARTUUID="},
		"LABEL=os":                    {"use PARTLABEL= or PARTUUID="},
		"FOO=bar":                     {"want PARTLABEL="},
		"PARTUUID=12":                 {"no GUID"},
		"PARTTYPE=" + typeRoot:        {"/<number>"},
		"PARTTYPE=" + typeRoot + "/0": {"from 1"},
		"PARTTYPE=x/1":                {"no GUID"},
		"":                            {"exactly one"},
	} {
		_, err := ParseSelector(text)
		if err == nil {
			t.Errorf("%q was accepted", text)
			continue
		}
		wantError(t, err, words...)
	}
}

func TestPartUUIDErrors(t *testing.T) {
	s := newMachine(t, 512).slots()
	_, err := s.PartUUID("a", "kernel")
	wantError(t, err, "it is a file")
	_, err = s.PartUUID("a", "nothing")
	wantError(t, err, "not part of this machine's layout")
}

func TestNewRefuses(t *testing.T) {
	ok := func() Options { return newMachine(t, 512).o }
	for name, change := range map[string]func(o *Options){
		"want 512 or 4096":     func(o *Options) { o.SectorSize = 1024 },
		"which slot runs":      func(o *Options) { o.Roles = o.Roles[1:] },
		"declared twice":       func(o *Options) { o.Roles = append(o.Roles, o.Roles[0]) },
		"partition of its own": func(o *Options) { o.Roles[0].B = o.Roles[0].A },
		"one of its own":       func(o *Options) { o.Roles[1].B.Dir = o.Roles[1].A.Dir + "/" },
		"absolute":             func(o *Options) { o.Roles[1].B.Dir = "efi" },
		"exactly one":          func(o *Options) { o.Roles[0].B.Partition = Selector{Label: "x", PartUUID: guidRootA} },
		"is not known":         func(o *Options) { o.Roles[0].Kind = "tape" },
	} {
		o := ok()
		change(&o)
		_, err := New(o)
		wantError(t, err, name)
	}
}

// TestTargetStaysInside writes at random through a Target and compares the whole disk with what it should be.
func TestTargetStaysInside(t *testing.T) {
	for _, tt := range []struct {
		start, size int64
		direct      bool
	}{
		{3 * mib, 1*mib + 4096, true},
		{3 * mib, 1*mib + 512, false},
		{3*mib + 512, 1 * mib, false},
	} {
		start := tt.start
		m := newMachine(t, 512)
		e := standardEntries()
		for i := range e {
			e[i].start, e[i].size = int64(i+1)*mib, mib/2
		}
		e[2].start, e[2].size = tt.start, tt.size
		e[3].start = 5 * mib
		writeDisk(t, m.disk, 512, 6*mib, e)
		noise(t, m.disk, 2*mib, 3*mib+mib/2)
		s := m.slots()
		want := fileBytes(t, m.disk)
		rapid.Check(t, func(t *rapid.T) {
			target, err := s.Target("b", rootImage(mib))
			if err != nil {
				t.Fatal(err)
			}
			defer target.Close()
			if direct := target.(interface{ usable() *os.File }).usable() != nil; direct != tt.direct {
				t.Logf("direct I/O: %v, want %v", direct, tt.direct) // tmpfs has none
			}
			slot := want[start : start+target.Size()]
			for range rapid.IntRange(1, 6).Draw(t, "steps") {
				step(t, target, slot)
			}
			if err := target.Sync(); err != nil {
				t.Fatal(err)
			}
			again, err := target.Reread()
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(slot))
			if n, err := again.ReadAt(got, 0); n != len(got) || err != nil || !bytes.Equal(got, slot) {
				t.Fatalf("read back %d bytes, %v: same %v", n, err, bytes.Equal(got, slot))
			}
			disk, err := os.ReadFile(m.disk)
			if err != nil || !bytes.Equal(disk, want) {
				t.Fatalf("the disk differs from byte %d (slot at %d+%d)", firstDifference(disk, want), start, target.Size())
			}
		})
	}
}

func step(t *rapid.T, target updater.TargetCloser, slot []byte) {
	size := int64(len(slot))
	near := rapid.SampledFrom([]int64{0, 511, 512, 4096, size / 2, size - 4096, size - 513, size - 1, size}).Draw(t, "near")
	off := max(0, min(size+2, near+rapid.Int64Range(-2, 2).Draw(t, "by")))
	n := rapid.SampledFrom([]int64{0, 1, 511, 512, 513, 4095, 4096, 8192, 12345, size / 3}).Draw(t, "n")
	fits := off+n <= size
	switch rapid.IntRange(0, 2).Draw(t, "op") {
	case 0:
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
		_, err := target.WriteAt(b, off)
		if (err == nil) != fits {
			t.Fatalf("write of %d at %d of %d: %v", n, off, size, err)
		}
		if fits {
			copy(slot[off:], b)
		}
	case 1:
		if err := target.Zero(off, n); (err == nil) != fits {
			t.Fatalf("zero of %d at %d of %d: %v", n, off, size, err)
		}
		if fits {
			clear(slot[off : off+n])
		}
	case 2:
		b := make([]byte, n)
		got, err := target.ReadAt(b, off)
		want := max(0, min(n, size-off))
		if int64(got) != want || !bytes.Equal(b[:got], slot[min(off, size):][:got]) {
			t.Fatalf("read of %d at %d: %d bytes, %v", n, off, got, err)
		}
		if got < len(b) && !errors.Is(err, io.EOF) {
			t.Fatalf("short read of %d at %d: %v", n, off, err)
		}
	}
}

func firstDifference(a, b []byte) int {
	for i := range a {
		if i >= len(b) || a[i] != b[i] {
			return i
		}
	}
	return len(a)
}

func noise(t testing.TB, path string, off, n int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	if _, err := r.Read(b); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

func TestTargetRefusesNegativeOffsets(t *testing.T) {
	m := newMachine(t, 512)
	before := fileBytes(t, m.disk)
	target, err := m.slots().Target("b", rootImage(mib))
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	if _, err := target.WriteAt([]byte("x"), -1); err == nil {
		t.Error("written before the start")
	}
	if err := target.Zero(-512, 512); err == nil {
		t.Error("zeroed before the start")
	}
	if err := target.Zero(512, 1<<62); err == nil {
		t.Error("zeroed far too much")
	}
	if _, err := target.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("read before the start")
	}
	if !bytes.Equal(before, fileBytes(t, m.disk)) {
		t.Error("the disk was changed")
	}
}

func TestBase(t *testing.T) {
	m := newMachine(t, 4096)
	noise(t, m.disk, 3*mib, 4*mib)
	disk := fileBytes(t, m.disk)
	base, err := m.slots().Base("a", rootImage(mib+5))
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	got, err := io.ReadAll(io.NewSectionReader(base, 0, 10*mib))
	if err != nil || !bytes.Equal(got, disk[3*mib:4*mib+5]) {
		t.Errorf("the base of the running slot has %d bytes, %v", len(got), err)
	}
	_, err = m.slots().Base("b", rootImage(5*mib))
	wantError(t, err, "cannot read role", "needs a larger partition")
}

func TestAlignment(t *testing.T) {
	for _, tt := range []struct {
		start, size int64
		disk        disk
		want        int64
	}{
		{mib, mib, disk{sector: 512}, page},
		{mib, mib, disk{sector: 512, block: true}, page},
		{mib, mib + 512, disk{sector: 512}, 0},
		{mib + 512, mib, disk{sector: 512}, 0},
		{mib, mib + 512, disk{sector: 512, block: true}, 512},
		{34 * 512, mib, disk{sector: 512, block: true}, 512},
		{mib, mib + 512, disk{sector: 4096, block: true}, 0},
	} {
		// More than this would round a block over the end of the partition, into its neighbour.
		if got := alignment(extent{tt.start, tt.size}, &tt.disk); got != tt.want {
			t.Errorf("%d+%d on %+v: %d, want %d", tt.start, tt.size, tt.disk, got, tt.want)
		}
	}
}

// TestNeighboursWriteAtTheSameTime lets many writers share blocks.
func TestNeighboursWriteAtTheSameTime(t *testing.T) {
	m := newMachine(t, 512)
	target, err := m.slots().Target("b", rootImage(mib))
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	want := make([]byte, 64*1000)
	var all sync.WaitGroup
	for i := range 64 {
		piece := want[i*1000 : (i+1)*1000]
		for j := range piece {
			piece[j] = byte(i + 1)
		}
		all.Go(func() {
			if _, err := target.WriteAt(piece, int64(i)*1000); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	got := make([]byte, len(want))
	if _, err := target.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v, the first wrong byte is %d", err, firstDifference(got, want))
	}
}
