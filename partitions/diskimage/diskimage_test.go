package diskimage

import (
	"bytes"
	"context"
	"crypto/sha256"
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

	"github.com/evenkeel-os/evenkeel/partitions"
	"github.com/evenkeel-os/evenkeel/release"
)

func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// sample is a small machine with everything in it.
func sample(t testing.TB, sector int) Spec {
	t.Helper()
	root := noise(1, 3*mib+1000)
	clear(root[mib : 2*mib])
	s := Spec{
		Seed: "edge-appliance 7", Time: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), SectorSize: sector,
		Roles: []Role{{Name: "root", A: Bytes(root)}, {Name: "verity", Size: mib}},
		State: []File{
			{Path: "config.d/10-site.yaml", Content: Bytes([]byte("poll: 1h\n"))},
			{Path: "config.d/a name with blanks", Content: Bytes(nil)},
			{Path: "tuf/"},
		},
		StateSize: 16 * mib,
	}
	if sector != 4096 {
		s.ESPSize = 40 * mib
	}
	var err error
	s.ESP, err = ESPFiles(Boot{
		Architecture: "amd64", Loader: Bytes(noise(2, 200_000)), Config: []byte("# grub.cfg\n"),
		Env: bytes.Repeat([]byte("#"), 1024), EntryA: bytes.Repeat([]byte("\n"), 4096), EntryB: bytes.Repeat([]byte("\n"), 4096),
		ImagesA: []File{
			{Path: "vmlinuz", Content: withDigest(Bytes(noise(3, mib)))},
			{Path: "initrd.img", Content: withDigest(Bytes(noise(4, mib+1)))},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func withDigest(c Content) Content {
	r, _ := c.Open()
	b, _ := io.ReadAll(r)
	c.SHA256 = sha256.Sum256(b)
	return c
}

func build(t testing.TB, s Spec) string {
	t.Helper()
	for _, tool := range []string{"mkfs.ext4", "debugfs"} {
		if _, err := lookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := Build(context.Background(), s, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs a tool that judges the image.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	path, err := lookPath(name)
	if err != nil {
		t.Skipf("%s is not installed (Debian: gdisk, dosfstools, mtools, e2fsprogs)", name)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// TestImageIsClean asks the tools that everybody uses.
func TestImageIsClean(t *testing.T) {
	for _, sector := range []int{512, 4096} {
		t.Run(fmt.Sprintf("sectors of %d", sector), func(t *testing.T) {
			s := sample(t, sector)
			path := build(t, s)
			s, _ = s.withDefaults()
			parts, size, err := s.plan()
			if err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(path); err != nil || info.Size() != size || info.Mode().Perm() != 0o644 {
				t.Errorf("%v, %v, want %d bytes", info, err, size)
			}
			judgeTable(t, path, sector)
			esp := filepath.Join(t.TempDir(), "esp.img")
			copyRange(t, path, esp, parts[0])
			if out := run(t, "fsck.vfat", "-n", "-v", esp); strings.Contains(out, "ifferences") {
				t.Error(out)
			}
			state := parts[len(parts)-1]
			if out := run(t, "e2fsck", "-f", "-n", fmt.Sprintf("%s?offset=%d", path, state.start)); !strings.Contains(out, "state: ") {
				t.Error(out)
			}
			judgeState(t, path, state)
			judgeSlots(t, path, parts)
		})
	}
}

// judgeTable runs sgdisk, which takes a file for a disk with sectors of 512 bytes; others need a loop device.
func judgeTable(t *testing.T, path string, sector int) {
	t.Helper()
	dev := path
	if sector != 512 {
		if os.Getuid() != 0 {
			t.Log("sgdisk is skipped: it needs a loop device for large sectors, and that needs root")
			return
		}
		out, err := exec.Command("losetup", "--find", "--show", "--sector-size", fmt.Sprint(sector), path).Output()
		if err != nil {
			t.Logf("sgdisk is skipped: no loop devices here: %v", err)
			return
		}
		dev = strings.TrimSpace(string(out))
		defer exec.Command("losetup", "--detach", dev).Run() //nolint:errcheck // the test is over
	}
	if out := run(t, "sgdisk", "-v", dev); !strings.Contains(out, "No problems found") {
		t.Error(out)
	}
	out := run(t, "sgdisk", "-p", dev)
	for _, want := range []string{"EF00  esp", "8300  root-a", "8300  root-b", "8300  verity-b", "8300  state"} {
		if !strings.Contains(out, want) {
			t.Errorf("sgdisk does not show %q:\n%s", want, out)
		}
	}
}

func judgeState(t *testing.T, path string, p part) {
	t.Helper()
	at := fmt.Sprintf("%s?offset=%d", path, p.start)
	if out := run(t, "debugfs", "-R", "cat /config.d/10-site.yaml", at); !strings.Contains(out, "poll: 1h") {
		t.Errorf("the configuration in the state partition: %q", out)
	}
	out := run(t, "debugfs", "-R", `ls -l "/config.d"`, at)
	for _, line := range strings.Split(out, "\n") {
		if f := strings.Fields(line); len(f) > 8 && f[8] != ".." && (f[3] != "0" || f[4] != "0" || f[6] != "24-Nov-2026") {
			t.Errorf("not root's, or of another day: %s", line)
		}
	}
	if !strings.Contains(out, "a name with blanks") || !strings.Contains(out, "100644") {
		t.Error(out)
	}
}

func judgeSlots(t *testing.T, path string, parts []part) {
	t.Helper()
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := noise(1, 3*mib+1000)
	clear(want[mib : 2*mib])
	a, b := parts[1], parts[2]
	if !bytes.Equal(image[a.start:][:len(want)], want) || len(bytes.Trim(image[a.start+int64(len(want)):a.start+a.size], "\x00")) > 0 {
		t.Error("slot A does not hold the image")
	}
	if len(bytes.Trim(image[b.start:b.start+b.size], "\x00")) > 0 {
		t.Error("slot B is not empty")
	}
}

func copyRange(t *testing.T, from, to string, p part) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b[p.start:p.start+p.size], 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestAgentFindsItsSlots: the image is what the agent's own code expects.
func TestAgentFindsItsSlots(t *testing.T) {
	for _, sector := range []int{512, 4096} {
		s := sample(t, sector)
		path := build(t, s)
		role := func(name string) partitions.Role {
			return partitions.Role{
				Name: release.Role(name), Kind: release.KindPartition,
				A: partitions.Place{Partition: partitions.Selector{Label: name + "-a"}},
				B: partitions.Place{Partition: partitions.Selector{Label: name + "-b"}},
			}
		}
		host := t.TempDir()
		for name, text := range map[string]string{
			"proc/cmdline":                  "evenkeel.slot=a root=PARTUUID=" + s.PartUUID("a", "root"),
			"proc/self/mountinfo":           "22 1 259:2 / / ro - ext4 /dev/root ro\n",
			"sys/dev/block/259:2/uevent":    "PARTN=2\n",
			"sys/dev/block/ignored/nothing": "",
		} {
			if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(host, name)), 0o755), os.WriteFile(filepath.Join(host, name), []byte(text), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		slots, err := partitions.New(partitions.Options{
			Root: host, Disk: path, Roles: []partitions.Role{role("root"), role("verity")}, State: partitions.Selector{PartUUID: s.StatePartUUID()},
		})
		if err != nil {
			t.Fatal(err)
		}
		if run, err := slots.Running(); run != "a" || err != nil {
			t.Errorf("running %q, %v", run, err)
		}
		if l := slots.Check(); l.Err() != nil || l.SectorSize != sector {
			t.Errorf("%v, sectors of %d", l.Err(), l.SectorSize)
		}
		if got, err := slots.PartUUID("b", "verity"); got != s.PartUUID("b", "verity") || err != nil {
			t.Errorf("PARTUUID %s, %v", got, err)
		}
	}
}

func TestReproducible(t *testing.T) {
	one, two := build(t, sample(t, 512)), build(t, sample(t, 512))
	a, err1 := os.ReadFile(one)
	b, err2 := os.ReadFile(two)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("two builds differ at byte %d", i)
		}
	}
}

func TestSeeds(t *testing.T) {
	seen := map[string]bool{}
	for _, seed := range []string{"one", "two"} {
		s := Spec{Seed: seed}
		for _, id := range []string{s.PartUUID("a", "root"), s.PartUUID("b", "root"), s.PartUUID("a", "verity"), s.StatePartUUID()} {
			if seen[id] || len(id) != 36 || id[14] != '4' || !strings.ContainsRune("89ab", rune(id[19])) {
				t.Errorf("GUID %s", id)
			}
			seen[id] = true
		}
	}
	if got, want := (Spec{Seed: "one"}).PartUUID("a", "root"), (Spec{Seed: "one", SectorSize: 4096}).PartUUID("a", "root"); got != want {
		t.Errorf("the seed alone does not decide: %s, %s", got, want)
	}
}

func TestSizes(t *testing.T) {
	s := sample(t, 512)
	s.Size = 256 * mib
	s, err := s.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	parts, size, err := s.plan()
	if err != nil || size != 256*mib {
		t.Fatalf("%d, %v", size, err)
	}
	end := int64(mib)
	for _, p := range parts {
		if p.start != end || p.start%mib != 0 || p.size%mib != 0 {
			t.Errorf("%s: %d+%d, want it at %d", p.label, p.start, p.size, end)
		}
		end += p.size
	}
	if end != size-mib {
		t.Errorf("the last partition ends at %d of %d", end, size)
	}
	if root := parts[1]; root.size != 7*mib {
		t.Errorf("a slot has %d bytes, want twice the image", root.size)
	}
}

func TestBuildRefuses(t *testing.T) {
	boom := Content{Size: 1, Open: func() (io.ReadCloser, error) { return nil, errors.New("boom") }}
	wrong := Bytes([]byte("x"))
	wrong.SHA256[0] = 1
	short := Bytes([]byte("xyz"))
	short.Size = 4
	for _, tt := range []struct {
		name   string
		change func(s *Spec)
		want   string
	}{
		{"no seed", func(s *Spec) { s.Seed = "" }, "without a seed"},
		{"sector size", func(s *Spec) { s.SectorSize = 520 }, "want 512 or 4096"},
		{"image larger than its slot", func(s *Spec) { s.Roles[0].Size = mib }, "its image has"},
		{"disk too small", func(s *Spec) { s.Size = 32 * mib }, "cannot fit the partitions"},
		{"ESP too small", func(s *Spec) { s.ESPSize = 2 * mib }, "needs at least"},
		{"image unreadable", func(s *Spec) { s.Roles[0].A = boom }, "partition root-a: boom"},
		{"image tampered with", func(s *Spec) { s.Roles[0].A = wrong }, "the release says"},
		{"image ends early", func(s *Spec) { s.Roles[0].A = short }, "has 3 bytes, not 4"},
		{"kernel tampered with", func(s *Spec) { s.ESP[5].Content = wrong }, "the release says"},
		{"state path leaves", func(s *Spec) { s.State[0].Path = "../x" }, "relative path"},
		{"state path with quotes", func(s *Spec) { s.State[0].Path = `a"b` }, "without quotes"},
		{"state file twice", func(s *Spec) { s.State[1] = s.State[0] }, "named twice"},
		{"state file tampered with", func(s *Spec) { s.State[0].Content = wrong }, "the release says"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := sample(t, 512)
			tt.change(&s)
			dir := t.TempDir()
			path := filepath.Join(dir, "disk.img")
			if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			err := Build(context.Background(), s, path)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if b, err := os.ReadFile(path); string(b) != "old" {
				t.Errorf("the old image is gone: %v", err)
			}
			if entries, _ := os.ReadDir(dir); len(entries) != 1 {
				t.Errorf("something was left behind: %v", entries)
			}
		})
	}
}

func TestBuildCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Build(ctx, sample(t, 512), filepath.Join(t.TempDir(), "x")); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestMissingTool(t *testing.T) {
	_, err := lookPath("mkfs.evenkeel")
	if err == nil || !strings.Contains(err.Error(), "apt install e2fsprogs") {
		t.Error(err)
	}
}

func TestESPFilesUnknownArchitecture(t *testing.T) {
	if _, err := ESPFiles(Boot{Architecture: "vax"}); err == nil || !strings.Contains(err.Error(), `"vax"`) {
		t.Error(err)
	}
}

func TestSparseWriter(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "x"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var want []byte
	w := &sparseWriter{ctx: context.Background(), f: f, off: 1000, end: 1000 + 300*hole}
	for i, n := range []int{1, 5000, hole, 3 * hole, 7, 100 * hole, 1, 9 * hole} {
		b := make([]byte, n)
		if i%2 == 0 {
			copy(b, noise(byte(i), n))
			if n > 2*hole {
				clear(b[hole : len(b)-hole])
			}
		}
		if got, err := w.Write(b); got != n || err != nil {
			t.Fatalf("wrote %d of %d, %v", got, n, err)
		}
		want = append(want, b...)
	}
	got := make([]byte, len(want))
	if _, err := f.ReadAt(got, 1000); err != nil && err != io.EOF || !bytes.Equal(got, want) {
		t.Errorf("read back: %v", err)
	}
	if _, err := w.Write(make([]byte, 300*hole)); err == nil || !strings.Contains(err.Error(), "it is full") {
		t.Error(err)
	}
}

// TestStateIsRoots: the builder need not be root, so what mkfs.ext4 takes over from the files is not enough.
func TestStateIsRoots(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "d"), 0o700), os.WriteFile(filepath.Join(dir, "d", "f g"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	script, err := Spec{Time: time.Unix(1234567890, 0)}.ownership(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"/" uid 0`, `"/d" gid 0`, `"/d" mode 040755`, `"/d/f g" uid 0`, `"/d/f g" mode 0100644`, `"/d/f g" ctime @1234567890`,
	} {
		if !strings.Contains(string(script), "set_inode_field "+want+"\n") {
			t.Errorf("no %q in\n%s", want, script)
		}
	}
}
