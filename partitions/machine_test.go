package partitions

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/updater"
)

const (
	mib       = 1 << 20
	guidRootA = "aaaaaaaa-0000-4000-8000-000000000001"
	guidRootB = "bbbbbbbb-0000-4000-8000-000000000002"
	typeRoot  = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
)

// machine is a disk image file and a made-up tree of proc and sys.
type machine struct {
	t    *testing.T
	root string // tree
	disk string
	esp  string
	o    Options
}

type entry struct {
	label, guid, typ string
	start, size      int64 // bytes
}

func standardEntries() []entry {
	return []entry{
		{"esp", "eeeeeeee-0000-4000-8000-000000000001", string(gpt.EFISystemPartition), 1 * mib, 2 * mib},
		{"root-a", guidRootA, typeRoot, 3 * mib, 4 * mib},
		{"root-b", guidRootB, typeRoot, 7 * mib, 4 * mib},
		{"state", "dddddddd-0000-4000-8000-000000000004", string(gpt.LinuxFilesystem), 11 * mib, 1 * mib},
	}
}

// writeDisk makes a disk image file with a GPT.
func writeDisk(t testing.TB, path string, sector int, size int64, entries []entry) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	writeTable(t, f, sector, size, entries)
}

func writeTable(t testing.TB, f *os.File, sector int, size int64, entries []entry) {
	t.Helper()
	table := &gpt.Table{LogicalSectorSize: sector, PhysicalSectorSize: sector, ProtectiveMBR: true, GUID: "99999999-0000-4000-8000-000000000000"}
	for i, e := range entries {
		s := int64(sector)
		table.Partitions = append(table.Partitions, &gpt.Partition{
			Index: i + 1, Start: uint64(e.start / s), End: uint64((e.start+e.size)/s - 1), Size: uint64(e.size),
			Name: e.label, GUID: e.guid, Type: gpt.Type(e.typ),
		})
	}
	w, err := file.New(f, false).Writable()
	if err != nil {
		t.Fatal(err)
	}
	if err := table.Write(w, size); err != nil {
		t.Fatal(err)
	}
}

// newMachine is a machine that runs slot a.
func newMachine(t *testing.T, sector int) *machine {
	t.Helper()
	dir := t.TempDir()
	m := &machine{t: t, root: filepath.Join(dir, "host"), disk: filepath.Join(dir, "disk.img"), esp: filepath.Join(dir, "esp")}
	writeDisk(t, m.disk, sector, 16*mib, standardEntries())
	m.boots("a")
	for _, d := range []string{"evenkeel/a", "evenkeel/b"} {
		if err := os.MkdirAll(filepath.Join(m.esp, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.o = Options{
		Root: m.root, Disk: m.disk, State: Selector{Label: "state"},
		Roles: []Role{
			{Name: "root", Kind: release.KindPartition, A: Place{Partition: Selector{Label: "root-a"}}, B: Place{Partition: Selector{Label: "root-b"}}},
			{Name: "kernel", Kind: release.KindFile, A: Place{Dir: filepath.Join(m.esp, "evenkeel/a")}, B: Place{Dir: filepath.Join(m.esp, "evenkeel/b")}},
		},
	}
	return m
}

// boots makes the tree say that slot was booted as it should be.
func (m *machine) boots(slot updater.Slot) {
	n, guid := 2, guidRootA
	if slot == updater.B {
		n, guid = 3, guidRootB
	}
	m.cmdline(fmt.Sprintf("BOOT_IMAGE=/vmlinuz root=PARTUUID=%s ro evenkeel.slot=%s", guid, slot))
	m.mounts(fmt.Sprintf("22 1 259:%d / / ro,relatime - ext4 /dev/root ro", n))
	for i := range 4 {
		m.device(fmt.Sprintf("259:%d", i+1), fmt.Sprintf("DEVNAME=vda%d\nDEVTYPE=partition\nPARTN=%d\n", i+1, i+1))
	}
}

func (m *machine) write(name, text string) {
	m.t.Helper()
	path := filepath.Join(m.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) cmdline(text string)     { m.write("proc/cmdline", text+"\n") }
func (m *machine) device(dev, text string) { m.write("sys/dev/block/"+dev+"/uevent", text) }

func (m *machine) mounts(lines ...string) {
	m.write("proc/self/mountinfo", "20 1 0:21 / /proc rw - proc proc rw\n"+strings.Join(lines, "\n")+"\n")
}

func (m *machine) slots() *Slots {
	m.t.Helper()
	s, err := New(m.o)
	if err != nil {
		m.t.Fatal(err)
	}
	return s
}

func rootImage(size int64) release.Image {
	return release.Image{Role: "root", Kind: release.KindPartition, Size: size}
}

func kernelImage(name string, size int64) release.Image {
	return release.Image{Role: "kernel", Kind: release.KindFile, Name: name, Size: size}
}

// wantError checks that err says every one of the words.
func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one that says %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}
