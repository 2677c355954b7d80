package partitions

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestTableOfSgdisk reads tables made by the tool that everybody uses, with the entry array elsewhere and holes between
// the numbers.
func TestTableOfSgdisk(t *testing.T) {
	if _, err := exec.LookPath("sgdisk"); err != nil {
		t.Skip("sgdisk is not installed (Debian: gdisk)")
	}
	for _, args := range [][]string{nil, {"-j", "64"}} {
		path := filepath.Join(t.TempDir(), "disk.img")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, 16*mib); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-n5:4096:+1M", "-c5:root-a", "-t5:8304", "-u5:"+guidRootA, "-n2:8192:+1M", "-c2:röt-b", "-t2:8304", path)
		if out, err := exec.Command("sgdisk", args...).CombinedOutput(); err != nil {
			t.Fatalf("sgdisk %v: %v: %s", args, err, out)
		}
		d, err := readDisk(path, 0)
		if err != nil {
			t.Fatal(err)
		}
		p, err := d.find(Selector{PartUUID: strings.ToUpper(guidRootA)})
		want := Partition{extent: extent{Start: 2 * mib, Size: mib}, Number: 5, Label: "root-a", PartUUID: guidRootA, Type: typeRoot, disk: path}
		if err != nil || !reflect.DeepEqual(p, want) {
			t.Errorf("%v: %+v, %v, want %+v", args, p, err, want)
		}
		if p, err := d.find(Selector{Type: typeRoot, Order: 1}); err != nil || p.Label != "röt-b" {
			t.Errorf("the first by number is %v, %v", p, err)
		}
		_, err = d.find(Selector{Type: typeRoot, Order: 3})
		wantError(t, err, "no partition PARTTYPE=", "/3")
	}
}

func TestDamagedTables(t *testing.T) {
	damage := func(at int64, n int) func(t *testing.T, f *os.File) {
		return func(t *testing.T, f *os.File) {
			b := make([]byte, n)
			for i := range b {
				b[i] = 0x5a
			}
			if _, err := f.WriteAt(b, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, sector := range []int64{512, 4096} {
		for _, tt := range []struct {
			name      string
			do        func(t *testing.T, f *os.File)
			recovered bool
			err       []string
		}{
			{name: "primary header", do: damage(sector, 8), recovered: true},
			{name: "primary header's CRC", do: damage(sector+16, 4), recovered: true},
			{name: "primary entries", do: damage(2*sector, 16), recovered: true},
			{name: "backup only", do: damage(16*mib-sector, 512)},
			{name: "both headers", do: func(t *testing.T, f *os.File) {
				damage(sector, 512)(t, f)
				damage(16*mib-sector, 512)(t, f)
			}, err: []string{"no GUID partition table"}},
			{name: "both entry arrays", do: func(t *testing.T, f *os.File) {
				damage(2*sector, 16)(t, f)
				damage(16*mib-sector-128*128, 16)(t, f)
			}, err: []string{"damaged"}},
			{name: "entries without end", do: reheader(sector, 80, 0xffffffff), err: []string{"4294967295 entries"}},
			{name: "entries without size", do: reheader(sector, 84, 0), err: []string{"of 0 bytes"}},
			{name: "truncated", do: func(t *testing.T, f *os.File) {
				if err := f.Truncate(8 * mib); err != nil {
					t.Fatal(err)
				}
			}, err: []string{"lies outside"}},
		} {
			t.Run(fmt.Sprintf("%s, %d", tt.name, sector), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "disk.img")
				writeDisk(t, path, int(sector), 16*mib, standardEntries())
				f, err := os.OpenFile(path, os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				tt.do(t, f)
				d, err := readDisk(path, 0)
				if tt.err != nil {
					wantError(t, err, tt.err...)
					return
				}
				if err != nil || d.recovered != tt.recovered || len(d.partitions) != 4 || d.sector != int(sector) {
					t.Errorf("%+v, %v", d, err)
				}
			})
		}
	}
}

// reheader changes one field of the primary header and makes its checksum right again.
func reheader(sector int64, at int, value uint32) func(t *testing.T, f *os.File) {
	return func(t *testing.T, f *os.File) {
		h := make([]byte, 92)
		if _, err := f.ReadAt(h, sector); err != nil {
			t.Fatal(err)
		}
		binary.LittleEndian.PutUint32(h[at:], value)
		binary.LittleEndian.PutUint32(h[16:], 0)
		binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h))
		if _, err := f.WriteAt(h, sector); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMBRIsNoGPT(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.img")
	b := make([]byte, 4*mib)
	copy(b[446:], []byte{0x80, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0})
	b[510], b[511] = 0x55, 0xaa
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := readDisk(path, 0)
	wantError(t, err, "no GUID partition table")
}

func FuzzReadDisk(f *testing.F) {
	for _, sector := range []int{512, 4096} {
		path := filepath.Join(f.TempDir(), "disk.img")
		writeDisk(f, path, sector, 16*mib, standardEntries())
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:3*sector], b[16*mib-sector:])
	}
	f.Fuzz(func(t *testing.T, head, tail []byte) {
		path := filepath.Join(t.TempDir(), "disk.img")
		if err := os.WriteFile(path, append(head, tail...), 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := readDisk(path, 0)
		if err != nil {
			return
		}
		for _, p := range d.partitions {
			if p.Start < 0 || p.Size <= 0 || p.Start+p.Size > d.size {
				t.Errorf("partition %+v outside of %d bytes", p, d.size)
			}
		}
	})
}

func FuzzParseMounts(f *testing.F) {
	f.Add("22 1 259:2 / / ro - ext4 /dev/root ro\n")
	f.Add("36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n")
	f.Fuzz(func(_ *testing.T, text string) {
		ms, _ := parseMounts(text)
		mountOf(ms, "/a/b")
	})
}

func TestMountOf(t *testing.T) {
	ms, err := parseMounts("1 1 8:1 / / rw - ext4 a rw\n2 1 8:2 / /var rw - ext4 b rw\n3 1 8:3 / /var/lib rw - ext4 c ro\n4 1 8:4 / /var rw - ext4 d rw\n")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/": "a", "/usr": "a", "/variable": "a", "/var": "d", "/var/x": "d", "/var/lib/evenkeel/": "c"} {
		if m, ok := mountOf(ms, path); !ok || m.source != want {
			t.Errorf("%s is on %q, want %q", path, m.source, want)
		}
	}
	if ms[2].readOnly != true || ms[1].readOnly != false {
		t.Error("read-only mounts are not told apart")
	}
}
