package partitions

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/updater"
)

func (m *machine) file(slot updater.Slot, name string) string {
	return filepath.Join(m.esp, "evenkeel", string(slot), name)
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestFileTarget(t *testing.T) {
	for _, tt := range []struct {
		name string
		old  int // bytes of the file that is there; -1: none
		size int
	}{
		{"new", -1, 10000},
		{"longer", 4096, 10000},
		{"shorter", 20000, 10000},
		{"as long", 10000, 10000},
		{"empty", 5, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t, 512)
			path := m.file("b", "vmlinuz")
			if tt.old >= 0 {
				writeFile(t, path, string(bytes.Repeat([]byte("o"), tt.old)))
			}
			target, err := m.slots().Target("b", kernelImage("vmlinuz", int64(tt.size)))
			if err != nil {
				t.Fatal(err)
			}
			if target.Size() != int64(tt.size) {
				t.Errorf("size %d", target.Size())
			}
			if kept := min(tt.old, tt.size); kept > 0 {
				b := make([]byte, kept)
				if _, err := target.ReadAt(b, 0); err != nil || bytes.Count(b, []byte("o")) != kept {
					t.Errorf("what was right is not seen: %v", err)
				}
			}
			want := bytes.Repeat([]byte("k"), tt.size)
			if _, err := target.WriteAt(want, 0); err != nil {
				t.Fatal(err)
			}
			if tt.size > 5000 {
				if err := target.Zero(100, 4900); err != nil {
					t.Fatal(err)
				}
				clear(want[100:5000])
			}
			again, err := target.Reread()
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, tt.size)
			if _, err := again.ReadAt(got, 0); tt.size > 0 && (err != nil || !bytes.Equal(got, want)) {
				t.Errorf("read back: %v", err)
			}
			if err := target.Close(); err != nil {
				t.Error(err)
			}
			if !bytes.Equal(fileBytes(t, path), want) {
				t.Error("the file does not hold what was written")
			}
		})
	}
}

func TestFileTargetResumes(t *testing.T) {
	m := newMachine(t, 512)
	for i, part := range []string{"first", "second"} {
		target, err := m.slots().Target("b", kernelImage("vmlinuz", 11))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := target.WriteAt([]byte(part), int64(5*i)); err != nil {
			t.Fatal(err)
		}
		target.Close() // without Sync, as after a crash of the agent
	}
	if got := string(fileBytes(t, m.file("b", "vmlinuz"))); got != "firstsecond" {
		t.Errorf("%q", got)
	}
}

func TestFileTargetRefuses(t *testing.T) {
	for _, tt := range []struct {
		name  string
		slot  updater.Slot
		image release.Image
		set   func(m *machine)
		err   []string
	}{
		{name: "the running slot", slot: "a", image: kernelImage("vmlinuz", 1), err: []string{"this system runs from it"}},
		{name: "a path", slot: "b", image: kernelImage("../a/vmlinuz", 1), err: []string{`"../a/vmlinuz"`, "plain file name"}},
		{name: "no name", slot: "b", image: kernelImage("", 1), err: []string{"plain file name"}},
		{name: "the directory above", slot: "b", image: kernelImage("..", 1), err: []string{"plain file name"}},
		{name: "the boot entry", slot: "b", image: kernelImage("BOOT.CFG", 1), err: []string{"other than boot.cfg"}},
		{name: "a directory is in the way", slot: "b", image: kernelImage("vmlinuz", 1), err: []string{"no regular file", "remove it"}, set: func(m *machine) {
			if err := os.Mkdir(m.file("b", "vmlinuz"), 0o755); err != nil {
				m.t.Fatal(err)
			}
		}},
		{name: "full", slot: "b", image: kernelImage("vmlinuz", 1<<60), err: []string{"vmlinuz needs 1152921504606846976 bytes", "bytes free"}},
		{name: "the ESP is not mounted", slot: "b", image: kernelImage("vmlinuz", 1), err: []string{"no EFI system partition is mounted", "mount it first"}, set: func(m *machine) {
			m.o.ESP = m.esp
		}},
		{name: "the ESP is read-only", slot: "b", image: kernelImage("vmlinuz", 1), err: []string{"mounted read-only", "fsck.vfat"}, set: func(m *machine) {
			m.o.ESP = m.esp
			m.mounts("22 1 259:2 / / ro - ext4 /dev/root ro", "30 22 259:1 / "+m.esp+" rw - vfat /dev/vda1 ro,errors=remount-ro")
		}},
		{name: "the ESP is on a slot", slot: "b", image: kernelImage("vmlinuz", 1), err: []string{"EFI system partition", "lies on slot b"}, set: func(m *machine) {
			m.o.ESP = m.esp
			m.mounts("22 1 259:2 / / ro - ext4 /dev/root ro", "30 22 259:3 / "+m.esp+" rw - vfat /dev/vda3 rw")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t, 512)
			writeFile(t, m.file("a", "vmlinuz"), "running")
			if tt.set != nil {
				tt.set(m)
			}
			target, err := m.slots().Target(tt.slot, tt.image)
			if err == nil {
				target.Close()
			}
			wantError(t, err, tt.err...)
			if got := string(fileBytes(t, m.file("a", "vmlinuz"))); got != "running" {
				t.Errorf("the running kernel is %q", got)
			}
			if info, err := os.Stat(m.file("b", "vmlinuz")); err == nil && info.Mode().IsRegular() {
				t.Error("the refusal left a file")
			}
		})
	}
}

func TestFileOnMountedESP(t *testing.T) {
	m := newMachine(t, 512)
	m.o.ESP = m.esp
	m.mounts("22 1 259:2 / / ro - ext4 /dev/root ro", "30 22 259:1 / "+m.esp+" rw - vfat /dev/vda1 rw")
	target, err := m.slots().Target("b", kernelImage("vmlinuz", 3))
	if err != nil {
		t.Fatal(err)
	}
	target.Close()
}

func TestFileBase(t *testing.T) {
	m := newMachine(t, 512)
	writeFile(t, m.file("a", "vmlinuz"), "kernel of a")
	base, err := m.slots().Base("a", kernelImage("vmlinuz", 6))
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	b := make([]byte, 20)
	if n, _ := base.ReadAt(b, 0); string(b[:n]) != "kernel" {
		t.Errorf("%q", b[:n])
	}
	_, err = m.slots().Base("b", kernelImage("vmlinuz", 6))
	wantError(t, err, "cannot read role", "no such file")
}

func TestPrune(t *testing.T) {
	m := newMachine(t, 512)
	for _, name := range []string{"vmlinuz-1", "VMLINUZ-2", "initrd.img", "boot.cfg", "grubenv", "GRUB.CFG"} {
		writeFile(t, m.file("b", name), "x")
		writeFile(t, m.file("a", name), "x")
	}
	if err := os.Mkdir(m.file("b", "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := m.slots()
	if err := s.Prune("b", []release.Image{kernelImage("vmlinuz-2", 1)}); err != nil {
		t.Fatal(err)
	}
	if got, want := names(t, m.file("b", "")), []string{"GRUB.CFG", "VMLINUZ-2", "boot.cfg", "dir", "grubenv"}; !slices.Equal(got, want) {
		t.Errorf("slot b has %q, want %q", got, want)
	}
	wantError(t, s.Prune("a", nil), "this system runs from it")
	if got := names(t, m.file("a", "")); len(got) != 6 {
		t.Errorf("slot a has %q", got)
	}
	if err := os.RemoveAll(m.file("b", "")); err != nil {
		t.Fatal(err)
	}
	if err := s.Prune("b", nil); err != nil {
		t.Errorf("a directory that does not exist yet: %v", err)
	}
}

func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}
