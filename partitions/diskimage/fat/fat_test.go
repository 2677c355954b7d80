package fat

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const mib = 1 << 20

func content(path string, b []byte) File {
	return File{Path: path, Size: int64(len(b)), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }}
}

func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func sampleFiles() []File {
	files := []File{
		content("EFI/BOOT/BOOTX64.EFI", noise(1, 300_001)),
		content("evenkeel/grub.cfg", []byte("set timeout=0\n")),
		content("evenkeel/grubenv", bytes.Repeat([]byte("#"), 1024)),
		content("evenkeel/a/vmlinuz-6.1.0-49-amd64", noise(2, 2*mib)),
		content("evenkeel/a/initrd.img", noise(3, 65536)),
		content("evenkeel/a/boot.cfg", noise(4, 4096)),
		{Path: "evenkeel/b/"},
		content("empty", nil),
		content("a name with blanks and Größe and 漢字.and.many.dots", []byte("long")),
		content("thirteen-char", []byte("13")),
		content("UPPER.TXT", []byte("no long name needed")),
		content(".hidden", []byte("leading dot")),
		content("deep/er/and/deeper/still/file", []byte("deep")),
	}
	for i := range 200 { // a directory of several clusters, and short names that collide
		files = append(files, content(fmt.Sprintf("many/longfilename-%03d.data", i), []byte{byte(i)}))
	}
	return files
}

func volume(size int64, sector int, files []File) Volume {
	return Volume{
		Size: size, SectorSize: sector, Hidden: 2048, Label: "ESP", Serial: 0x1234abcd,
		Time: time.Date(2026, 11, 24, 12, 34, 56, 0, time.UTC), Files: files,
	}
}

// writeVolume returns the path of a file that holds the volume.
func writeVolume(t testing.TB, v Volume) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "esp.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := v.Write(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(v.Size); err != nil {
		t.Fatal(err)
	}
	return path
}

func tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed (Debian: dosfstools, mtools)", name)
	}
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func TestVolumeIsCleanAndReadable(t *testing.T) {
	for _, tt := range []struct {
		size   int64
		sector int
	}{
		{MinSize(512), 512},
		{64 * mib, 512},
		{260*mib + 512, 512},
		{2048 * mib, 512},
		{MinSize(4096), 4096},
		{300 * mib, 4096},
	} {
		t.Run(fmt.Sprintf("%d bytes, sectors of %d", tt.size, tt.sector), func(t *testing.T) {
			files := sampleFiles()
			path := writeVolume(t, volume(tt.size, tt.sector, files))
			out := tool(t, "fsck.vfat", "-n", "-v", path)
			t.Logf("fsck.vfat:\n%s", out)
			for _, f := range files {
				if f.Open == nil {
					continue
				}
				got := readBack(t, path, f.Path)
				r, _ := f.Open()
				if want, _ := io.ReadAll(r); !bytes.Equal(got, want) {
					t.Errorf("%s: %d bytes read by mtools, want %d", f.Path, len(got), len(want))
				}
			}
		})
	}
}

func readBack(t testing.TB, image, path string) []byte {
	t.Helper()
	to := filepath.Join(t.TempDir(), "out")
	cmd := exec.Command("mcopy", "-n", "-i", image, "::"+path, to)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MTOOLS_SKIP_CHECK=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			t.Skip("mtools is not installed")
		}
		t.Fatalf("mcopy %s: %v: %s", path, err, out)
	}
	b, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestListing(t *testing.T) {
	path := writeVolume(t, volume(64*mib, 512, sampleFiles()))
	out := tool(t, "mdir", "-i", path, "::")
	for _, want := range []string{"Volume in drive : is ESP", "1234-ABCD", "UPPER    TXT", "2026-11-24  12:34", "thirteen-char"} {
		if !strings.Contains(out, want) {
			t.Errorf("mdir does not show %q:\n%s", want, out)
		}
	}
	if out := tool(t, "mdir", "-i", path, "::evenkeel/b"); !strings.Contains(out, "..") {
		t.Errorf("the empty directory:\n%s", out)
	}
}

// TestContiguous finds files by their content in the image: a boot loader writes some of them in place.
func TestContiguous(t *testing.T) {
	files := sampleFiles()
	image, err := os.ReadFile(writeVolume(t, volume(64*mib, 512, files)))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files[:6] {
		r, _ := f.Open()
		want, _ := io.ReadAll(r)
		if i := bytes.Index(image, want); i < 0 || i%512 != 0 {
			t.Errorf("%s lies at %d", f.Path, i)
		}
	}
}

func TestReproducible(t *testing.T) {
	var one, two bytes.Buffer
	v := volume(64*mib, 512, sampleFiles())
	if _, err := v.Write(&one); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Write(&two); err != nil || !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Errorf("two writes differ (%v)", err)
	}
	if one.Len() > 8*mib {
		t.Errorf("%d bytes are written for 3 MiB of files: the free space is not left out", one.Len())
	}
}

func TestRefuses(t *testing.T) {
	short := content("short", []byte("abc"))
	short.Size = 4
	long := content("long", []byte("abc"))
	long.Size = 2
	big := content("big", nil)
	big.Size = 1 << 32
	broken := File{Path: "broken", Size: 1, Open: func() (io.ReadCloser, error) { return nil, errors.New("boom") }}
	for _, tt := range []struct {
		name string
		v    Volume
		want string
	}{
		{"too small", volume(MinSize(512)-4096, 512, nil), "needs at least"},
		{"too small for large sectors", volume(64*mib, 4096, nil), "needs at least"},
		{"odd size", volume(64*mib+1, 512, nil), "a multiple of 512"},
		{"odd sector", volume(64*mib, 1024, nil), "want 512 or 4096"},
		{"full", volume(40*mib, 512, []File{content("x", make([]byte, 41*mib))}), "cannot fit the files"},
		{"twice", volume(64*mib, 512, []File{content("EFI/x", nil), content("efi/X", nil)}), "there already"},
		{"file as directory", volume(64*mib, 512, []File{content("x", nil), content("x/y", nil)}), `"x" is`},
		{"no name", volume(64*mib, 512, []File{content("a//b", nil)}), "no file name"},
		{"absolute", volume(64*mib, 512, []File{content("/a", nil)}), "no file name"},
		{"dot dot", volume(64*mib, 512, []File{content("../a", nil)}), "no file name"},
		{"bad character", volume(64*mib, 512, []File{content("a:b", nil)}), "does not know"},
		{"trailing dot", volume(64*mib, 512, []File{content("a.", nil)}), "ends with a dot"},
		{"long name", volume(64*mib, 512, []File{content(strings.Repeat("x", 256), nil)}), "longer than 255"},
		{"no content", volume(64*mib, 512, []File{{Path: "x"}}), "no content"},
		{"too large", volume(64*mib, 512, []File{big}), "below 4 GiB"},
		{"ends early", volume(64*mib, 512, []File{short}), "ends after 3 of 4 bytes"},
		{"goes on", volume(64*mib, 512, []File{long}), "more than 2 bytes"},
		{"unreadable", volume(64*mib, 512, []File{broken}), "boom"},
		{"label", Volume{Size: 64 * mib, SectorSize: 512, Label: "lower"}, "volume label"},
	} {
		if _, err := tt.v.Write(io.Discard); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestShortNames(t *testing.T) {
	taken := []string{}
	for _, tt := range []struct {
		name, short string
		long        bool
	}{
		{"BOOTX64.EFI", "BOOTX64 EFI", false},
		{"vmlinuz", "VMLINUZ    ", true},
		{"initrd.img", "INITRD  IMG", true},
		{"vmlinuz-6.1.0-49", "VMLINU~10-4", true},
		{"vmlinuz-6.1.0-50", "VMLINU~10-5", true},
		{"vmlinuz-1", "VMLINU~1   ", true},
		{"vmlinuz-2", "VMLINU~2   ", true},
		{"a.b.c", "AB~1    C  ", true},
		{".hidden", "HIDDEN~1   ", true},
		{"漢字", "__~1       ", true},
		{"...x", "~1      X  ", true},
		{"Makefile.am", "MAKEFILEAM ", true},
	} {
		short, long := shortName(tt.name, taken)
		if short != tt.short || long != tt.long {
			t.Errorf("%q: %q, %v, want %q, %v", tt.name, short, long, tt.short, tt.long)
		}
		taken = append(taken, short)
	}
}

func TestTimes(t *testing.T) {
	for _, tt := range []struct {
		t           time.Time
		date, clock uint16
	}{
		{time.Time{}, 0x21, 0},
		{time.Date(2026, 11, 24, 12, 34, 56, 0, time.UTC), 46<<9 | 11<<5 | 24, 12<<11 | 34<<5 | 28},
		{time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC), 127<<9 | 12<<5 | 31, 23<<11 | 59<<5 | 29},
	} {
		if d, c := dosTime(tt.t); d != tt.date || c != tt.clock {
			t.Errorf("%v: %#x %#x, want %#x %#x", tt.t, d, c, tt.date, tt.clock)
		}
	}
}

// TestAnyTree lets fsck.vfat and mtools look at trees with all sorts of names.
func TestAnyTree(t *testing.T) {
	if testing.Short() {
		t.Skip("runs tools many times")
	}
	rapid.Check(t, func(rt *rapid.T) {
		name := rapid.StringOfN(rapid.RuneFrom([]rune("aB1.-_ é漢")), 1, 30, -1)
		var files []File
		for i := range rapid.IntRange(0, 12).Draw(rt, "files") {
			parts := rapid.SliceOfN(name, 1, 4).Draw(rt, "path")
			path := strings.Join(parts, "/")
			f := content(path, noise(byte(i), rapid.SampledFrom([]int{0, 1, 511, 512, 513, 5000}).Draw(rt, "size")))
			if _, err := buildTree(append(files, f)); err == nil {
				files = append(files, f)
			}
		}
		path := writeVolume(t, volume(MinSize(512), 512, files))
		if out := tool(t, "fsck.vfat", "-n", path); strings.Contains(out, "ifferences") || strings.Contains(out, "Auto-") {
			rt.Fatal(out)
		}
		_ = os.Remove(path)
	})
}
