package vmtest

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/evenkeel-os/evenkeel/fixtures"
)

// tinyBase is as much of a Debian as an appliance is made of.
func tinyBase(t *testing.T) string {
	t.Helper()
	base := newTree()
	base.add("usr/lib/os-release", 0o644, []byte("ID=debian\n"))
	base.add("usr/bin/busybox", 0o755, []byte("busybox"))
	base.add("usr/sbin/blkid", 0o755, []byte("blkid"))
	base.add("usr/sbin/init", 0o755, []byte("init"))
	base.add("usr/lib/x86_64-linux-gnu/libc.so.6", 0o755, []byte("libc"))
	base.add("usr/lib/x86_64-linux-gnu/libblkid.so.1.1.0", 0o755, []byte("libblkid"))
	base.link("usr/lib/x86_64-linux-gnu/libblkid.so.1", "libblkid.so.1.1.0")
	base.add("usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", 0o755, []byte("ld"))
	base.link("usr/lib64/ld-linux-x86-64.so.2", "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		base.link(dir, "usr/"+dir)
	}
	base.add("boot/vmlinuz-6.1", 0o644, bytes.Repeat([]byte("kernel"), 1000))
	dep := ""
	for _, m := range initrdModules {
		name := strings.ReplaceAll(m, "_", "-") + ".ko"
		base.add("usr/lib/modules/6.1/kernel/"+name, 0o644, []byte(m))
		needs := ""
		if m == "virtio_blk" {
			needs = " kernel/virtio-pci.ko kernel/virtio.ko"
		}
		dep += "kernel/" + name + ":" + needs + "\n"
	}
	base.add("usr/lib/modules/6.1/kernel/virtio.ko", 0o644, []byte("virtio"))
	base.add("usr/lib/modules/6.1/modules.dep", 0o644, []byte(dep))
	base.add("usr/share/perl/5.36/x.pm", 0o644, []byte("unwanted"))
	name := filepath.Join(t.TempDir(), "base.tar")
	f, err := os.Create(name)
	if err == nil {
		err = errors.Join(base.write(f), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func tinyBuilder(t *testing.T) *Builder {
	t.Helper()
	programs := t.TempDir()
	for _, p := range []string{"evenkeel", "evenkeel-next"} {
		if err := os.WriteFile(filepath.Join(programs, p), []byte(p), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b := &Builder{Base: tinyBase(t), Source: "../..", Programs: programs, Root: []byte("{}")}
	if err := b.load(); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestReleases looks at the root file systems of every kind: what packaging/README.md wants is there, and the kind is what
// it says.
func TestReleases(t *testing.T) {
	b := tinyBuilder(t)
	good, err := b.tree(v2(fixtures.Good))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{
		"usr/bin/evenkeel", "usr/lib/systemd/system/evenkeel.service", "etc/systemd/system/multi-user.target.wants/evenkeel.service",
		"etc/systemd/system/sysinit.target.wants/evenkeel-deadline.service", "etc/evenkeel/config.yaml", "usr/share/evenkeel/root.json", "etc/machine-id",
		"usr/lib/systemd/system.conf.d/10-evenkeel-watchdog.conf", "usr/lib/vm/operator", "var/lib/evenkeel", "efi",
	} {
		if good.files[p] == nil {
			t.Errorf("%s is missing", p)
		}
	}
	if n := good.files["usr/lib/os-release"]; string(n.data) != "ID=debian\nIMAGE_ID=edge-appliance\nIMAGE_VERSION=2.0\nEVENKEEL_SERIAL=20\n" {
		t.Errorf("os-release says %s", n.data)
	}
	if good.files["usr/share/perl/5.36/x.pm"] != nil || good.files["boot/vmlinuz-6.1"] != nil {
		t.Error("it holds what nobody reads")
	}
	for kind, want := range map[fixtures.Kind]string{
		fixtures.Sick: "usr/lib/evenkeel/health/required.d/50-application", fixtures.Dead: "usr/sbin/init", fixtures.Mute: "usr/lib/systemd/system/evenkeel.service.d/mute.conf",
		fixtures.Hung: "etc/systemd/system/sysinit.target.wants/hang.service", fixtures.Crashy: "etc/systemd/system/multi-user.target.wants/crash.service",
	} {
		bad, err := b.tree(v2(kind))
		if err != nil {
			t.Fatal(err)
		}
		if n := bad.files[want]; n == nil || good.files[want] != nil && bytes.Equal(n.data, good.files[want].data) {
			t.Errorf("%s: %s is as in a good release", kind, want)
		}
	}
	later := v2(fixtures.Good)
	later.Agent = "evenkeel-next"
	if tr, err := b.tree(later); err != nil || string(tr.files["usr/bin/evenkeel"].data) != "evenkeel-next" {
		t.Errorf("the later agent is not in its release: %v", err)
	}
}

// TestBeginning: two releases differ at the end of the tar file only, so that an update copies what comes before.
func TestBeginning(t *testing.T) {
	b := tinyBuilder(t)
	var texts [2]bytes.Buffer
	for i, r := range []Release{v1(), v2(fixtures.Sick)} {
		tr, err := b.tree(r)
		if err == nil {
			err = tr.write(&texts[i])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	one, two := texts[0].Bytes(), texts[1].Bytes()
	same := 0
	for same < min(len(one), len(two)) && one[same] == two[same] {
		same++
	}
	if at := bytes.Index(one, []byte("etc/evenkeel/config.yaml")); at < 0 || same < at {
		t.Errorf("they differ from byte %d on", same)
	}
}

func TestBuild(t *testing.T) {
	if _, err := exec.LookPath("sqfstar"); err != nil {
		t.Skipf("%v: apt-get install squashfs-tools", err)
	}
	var digests []string
	for range 2 {
		b, dir := tinyBuilder(t), t.TempDir()
		im, err := b.Build(t.Context(), v2(fixtures.Unloadable), dir)
		if err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(im.Kernel); err != nil || st.Size() != 512 {
			t.Errorf("the kernel is not cut short: %v, %v", st, err)
		}
		data, err := os.ReadFile(im.Root)
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, string(data))
	}
	if digests[0] != digests[1] {
		t.Error("the same release has two images")
	}
}

func TestLinks(t *testing.T) {
	tr := newTree()
	tr.add("usr/lib/x", 0o644, []byte("x"))
	tr.link("lib", "usr/lib")
	tr.link("usr/lib/y", "x")
	tr.link("a", "/lib/y")
	tr.link("round", "round")
	for p, want := range map[string]string{"usr/lib/x": "x", "lib/x": "x", "lib/y": "x", "a": "x"} {
		if n, err := tr.resolve(p); err != nil || string(n.data) != want {
			t.Errorf("%s: %v", p, err)
		}
	}
	for _, p := range []string{"nothing", "lib/nothing", "round"} {
		if _, err := tr.resolve(p); err == nil {
			t.Errorf("%s: it is found", p)
		}
	}
}

// TestInitrd reads the archive back: what a module needs comes before it, and every file has its directories.
func TestInitrd(t *testing.T) {
	b := tinyBuilder(t)
	files, order := unpack(t, b.initrd)
	if list := strings.Fields(files["modules.list"]); list[0] != "virtio-pci.ko" || slices.Index(list, "virtio.ko") > slices.Index(list, "virtio-blk.ko") {
		t.Errorf("modules are loaded in the order %q", list)
	}
	for m := range strings.Lines(files["modules.list"]) {
		if files["modules/"+strings.TrimSpace(m)] == "" {
			t.Errorf("%s is missing", m)
		}
	}
	if files["bin/busybox"] != "busybox" || files["bin/sh"] != "busybox" || files["lib/x86_64-linux-gnu/libblkid.so.1"] != "libblkid" || files["init"] == "" {
		t.Errorf("it holds %q", order)
	}
	for i, name := range order {
		if dir := filepath.Dir(name); dir != "." && !slices.Contains(order[:i], dir) {
			t.Errorf("%s comes before its directory", name)
		}
	}
}

func unpack(t *testing.T, a []byte) (files map[string]string, order []string) {
	t.Helper()
	files = map[string]string{}
	for r := bytes.NewReader(a); ; {
		field := func(i int) int {
			at := int64(len(a) - r.Len())
			n, err := strconv.ParseInt(string(a[at+6+8*int64(i):at+14+8*int64(i)]), 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			return int(n)
		}
		size, nameSize := field(6), field(11)
		skip := func(n int) []byte {
			b := make([]byte, n)
			if _, err := io.ReadFull(r, b); err != nil {
				t.Fatal(err)
			}
			for (len(a)-r.Len())%4 != 0 {
				_, _ = r.ReadByte()
			}
			return b
		}
		head := skip(110 + nameSize)
		name := strings.TrimRight(string(head[110:]), "\x00")
		if name == "TRAILER!!!" {
			return files, order
		}
		files[name] = string(skip(size))
		order = append(order, name)
	}
}

func TestBaseWithoutKernel(t *testing.T) {
	name := filepath.Join(t.TempDir(), "base.tar")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "./etc/x", Typeflag: tar.TypeReg}), w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := (&Builder{Base: name}).Build(t.Context(), v1(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "0 kernels") {
		t.Errorf("%v", err)
	}
}

// TestConfig: what the appliance's configuration says is what the twin is told.
func TestConfig(t *testing.T) {
	data, err := additions.ReadFile("overlay/etc/evenkeel/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"tries: " + strconv.Itoa(tries), "attempts: " + strconv.Itoa(maxAttempts), "product: " + Product, "compatible: " + Compatible} {
		if !strings.Contains(string(data), want+"\n") {
			t.Errorf("it does not say %q", want)
		}
	}
	if _, err := json.Marshal(Scenarios()); err != nil {
		t.Errorf("scenarios are not data: %v", err)
	}
}
