package bootloader_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel-os/evenkeel/updater"
)

// stub is the code of a kernel that prints its command line and its initrd on the first serial port, then "@" on a line
// of its own, waits for an "r" there, and resets the machine. Assembled with "as --32" from:
//
//	        cld; mov %esi, %ebx                    # boot_params
//	        mov 0x214(%ebx), %esp; add $0x8000, %esp # code32_start
//	        mov 0x228(%ebx), %esi; mov $0x7ff, %ecx; call puts
//	        mov 0x218(%ebx), %esi; mov 0x21c(%ebx), %ecx; call puts
//	        mov $'@', %al; call putc; mov $'\n', %al; call putc
//	wait:   mov $0x3fd, %dx; in %dx, %al; test $1, %al; jz wait
//	        mov $0x3f8, %dx; in %dx, %al; cmp $'r', %al; jne wait
//	        mov $0xcf9, %dx; mov $6, %al; out %al, %dx
//	1:      hlt; jmp 1b
//	puts:   jecxz 2f; lodsb; test %al, %al; jz 2f; call putc; dec %ecx; jmp puts
//	2:      mov $' ', %al
//	putc:   mov %al, %ah; mov $0x3fd, %dx
//	3:      in %dx, %al; test $0x20, %al; jz 3b
//	        mov %ah, %al; mov $0x3f8, %dx; out %al, %dx; ret
var stub = []byte("\xfc\x89\xf3\x8b\xa3\x14\x02\x00\x00\x81\xc4\x00\x80\x00\x00\x8b\xb3\x28\x02\x00\x00\xb9\xff\x07\x00\x00\xe8\x3b\x00\x00\x00" +
	"\x8b\xb3\x18\x02\x00\x00\x8b\x8b\x1c\x02\x00\x00\xe8\x2a\x00\x00\x00\xb0\x40\xe8\x34\x00\x00\x00\xb0\x0a\xe8\x2d\x00\x00\x00" +
	"\x66\xba\xfd\x03\xec\xa8\x01\x74\xf7\x66\xba\xf8\x03\xec\x3c\x72\x75\xee\x66\xba\xf9\x0c\xb0\x06\xee\xf4\xeb\xfd" +
	"\xe3\x0d\xac\x84\xc0\x74\x08\xe8\x05\x00\x00\x00\x49\xeb\xf1\xb0\x20" +
	"\x88\xc4\x66\xba\xfd\x03\xec\xa8\x20\x74\xfb\x88\xe0\x66\xba\xf8\x03\xee\xc3")

// bzImage wraps code as Linux's boot protocol 2.12 wants it; name makes the file findable in a disk image.
func bzImage(code []byte, name string) []byte {
	h := make([]byte, 2*512)
	copy(h, name)
	h[0x1f1] = 1 // sectors of setup code after the first
	binary.LittleEndian.PutUint32(h[0x1f4:], 512/16)
	copy(h[0x1fe:], "\x55\xaa\xeb\x66HdrS\x0c\x02")
	h[0x211] = 1 // loaded high
	binary.LittleEndian.PutUint32(h[0x214:], 0x100000)
	binary.LittleEndian.PutUint32(h[0x22c:], 0x7fffffff)
	binary.LittleEndian.PutUint32(h[0x230:], 0x100000)
	h[0x234] = 1 // relocatable
	binary.LittleEndian.PutUint32(h[0x238:], 2047)
	binary.LittleEndian.PutUint64(h[0x258:], 0x1000000)
	binary.LittleEndian.PutUint32(h[0x260:], 0x100000)
	return append(h, append(code, make([]byte, 512-len(code))...)...)
}

const (
	ovmfCode = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	ovmfVars = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// needFirmware skips the test where the real thing is not installed. scripts/test installs it.
func needFirmware(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: no virtual machines")
	}
	for _, tool := range []string{"qemu-system-x86_64", "grub-mkimage", "mformat", "mmd", "mcopy", "sgdisk", "mkfs.ext4"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%v: apt-get install qemu-system-x86 ovmf grub-common grub-efi-amd64-bin mtools gdisk e2fsprogs", err)
		}
	}
	for _, file := range []string{ovmfCode, ovmfVars, "/usr/lib/grub/x86_64-efi/modinfo.sh"} {
		if _, err := os.Stat(file); err != nil {
			t.Skipf("%v: apt-get install ovmf grub-efi-amd64-bin", err)
		}
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// image is a disk with an ESP and a root partition for each slot, some files of which can be changed while a machine runs
// from it: they never move. It implements bootloader.Files for them.
type image struct {
	path string
	file *os.File
	at   map[string]extent
}

type extent struct {
	off  int64
	size int
}

const (
	espStart  = 1 << 20
	espSize   = 40 << 20
	rootSize  = 4 << 20
	rootStart = espStart + espSize
)

// newImage lays files out on the ESP, by their path below /efi; kernels go to /boot/vmlinuz of the roots too.
func newImage(t *testing.T, files map[string][]byte) *image {
	t.Helper()
	dir := t.TempDir()
	im := &image{path: filepath.Join(dir, "disk.img"), at: map[string]extent{}}
	f, err := os.Create(im.path)
	if err != nil {
		t.Fatal(err)
	}
	im.file = f
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(rootStart + 2*rootSize + 1<<20); err != nil {
		t.Fatal(err)
	}
	sector := func(b int64) string { return fmt.Sprint(b / 512) }
	args := []string{"-n1:" + sector(espStart) + ":" + sector(rootStart-512), "-t1:ef00", "-c1:esp"}
	for i, s := range []updater.Slot{updater.A, updater.B} {
		from := int64(rootStart + i*rootSize)
		uuid, _ := partUUID(s, "root")
		args = append(args, fmt.Sprintf("-n%d:%s:%s", i+2, sector(from), sector(from+rootSize-512)), fmt.Sprintf("-u%d:%s", i+2, uuid))
	}
	run(t, "sgdisk", append(args, im.path)...)
	im.copyIn(t, im.esp(t, dir, files), espStart)
	for i, s := range []updater.Slot{updater.A, updater.B} {
		im.copyIn(t, root(t, dir, s), int64(rootStart+i*rootSize))
	}
	im.find(t, files)
	return im
}

func (im *image) esp(t *testing.T, dir string, files map[string][]byte) string {
	t.Helper()
	esp := filepath.Join(dir, "esp.img")
	run(t, "truncate", "-s", fmt.Sprint(espSize), esp)
	run(t, "mformat", "-i", esp, "-F", "-c", "1", "::")
	run(t, "mmd", "-i", esp, "::EFI", "::EFI/BOOT", "::evenkeel", "::evenkeel/a", "::evenkeel/b")
	grub := filepath.Join(dir, "BOOTX64.EFI")
	run(t, "../scripts/lib/grub-efi.sh", grub)
	run(t, "mcopy", "-i", esp, grub, "::EFI/BOOT/BOOTX64.EFI")
	for name, data := range files {
		tmp := filepath.Join(dir, "file")
		if err := os.WriteFile(tmp, data, 0o644); err != nil {
			t.Fatal(err)
		}
		run(t, "mcopy", "-i", esp, tmp, "::"+strings.TrimPrefix(name, "/efi/"))
	}
	return esp
}

func root(t *testing.T, dir string, s updater.Slot) string {
	t.Helper()
	tree := filepath.Join(dir, "root-"+string(s))
	if err := os.MkdirAll(tree+"/boot", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tree+"/boot/vmlinuz", bzImage(stub, "inside "+string(s)), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.ext4", "-q", "-d", tree, tree+".img", fmt.Sprintf("%dk", rootSize>>10))
	return tree + ".img"
}

func (im *image) copyIn(t *testing.T, from string, off int64) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		_, err = im.file.WriteAt(data, off)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// find notes where the files lie. A fresh FAT file system does not fragment them.
func (im *image) find(t *testing.T, files map[string][]byte) {
	t.Helper()
	disk, err := os.ReadFile(im.path)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		off := bytes.Index(disk, data)
		if off < 0 || off%512 != 0 || bytes.Contains(disk[off+1:], data) {
			t.Fatalf("%s does not lie in one piece, once, on the disk", name)
		}
		im.at[name] = extent{int64(off), len(data)}
	}
}

// Read implements bootloader.Files.
func (im *image) Read(path string) ([]byte, error) {
	e, ok := im.at[path]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	data := make([]byte, e.size)
	_, err := im.file.ReadAt(data, e.off)
	return data, err
}

// Write implements bootloader.Files.
func (im *image) Write(path string, off int64, p []byte) error {
	e := im.at[path]
	if int(off)+len(p) > e.size {
		return io.ErrShortWrite
	}
	_, err := im.file.WriteAt(p, e.off+off)
	return err
}

// Make implements bootloader.Files.
func (im *image) Make(path string, data []byte) error {
	if len(data) != im.at[path].size {
		return fmt.Errorf("%s cannot get %d bytes in a disk image", path, len(data))
	}
	return im.Write(path, 0, data)
}

// machine is a running QEMU.
type machine struct {
	t     *testing.T
	stdin io.Writer
	lines chan string
	log   bytes.Buffer
}

var escapes = regexp.MustCompile(`\x1b\[[0-9;?=]*[a-zA-Z]`)

// powerOn starts a machine from the image; disk holds more options of its drive.
func powerOn(t *testing.T, im *image, disk string) *machine {
	t.Helper()
	vars := filepath.Join(t.TempDir(), "vars.fd")
	run(t, "cp", ovmfVars, vars)
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-machine", "q35,accel=tcg", "-m", "128", "-display", "none", "-nodefaults",
		"-serial", "stdio", "-net", "none",
		"-drive", "if=pflash,format=raw,readonly=on,file="+ovmfCode, "-drive", "if=pflash,format=raw,file="+vars,
		"-drive", "format=raw,if=virtio,file="+im.path+disk)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, stdin: stdin, lines: make(chan string, 1000)}
	done := make(chan struct{})
	go m.read(stdout, done)
	t.Cleanup(func() {
		cancel()
		<-done
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("console:\n%s", m.log.String())
		}
	})
	return m
}

func (m *machine) read(r io.Reader, done chan<- struct{}) {
	defer close(done)
	defer close(m.lines)
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		line := strings.TrimSpace(escapes.ReplaceAllString(in.Text(), ""))
		m.log.WriteString(line + "\n")
		select {
		case m.lines <- line:
		default: // nobody is interested any more
		}
	}
}

// reset lets the kernel that runs reset the machine.
func (m *machine) reset() {
	if _, err := io.WriteString(m.stdin, "r"); err != nil {
		m.t.Fatal(err)
	}
}

// trace is what a machine did from power on until a kernel ran, or until stop matched.
type trace struct {
	notes   []string // what our script said
	cmdline string   // what the kernel said: its command line, and its initrd
}

// await reads the console until a kernel waits, or our script says something that contains stop.
func (m *machine) await(stop string) (tr trace) {
	m.t.Helper()
	timeout := time.After(10 * time.Minute)
	for {
		select {
		case line, ok := <-m.lines:
			if !ok {
				m.t.Fatalf("the machine is gone; it said %v", tr.notes)
			}
			if _, note, ok := strings.Cut(line, "evenkeel: "); ok {
				tr.notes = append(tr.notes, note)
				if stop != "" && strings.Contains(note, stop) {
					return tr
				}
			}
			if strings.Contains(line, "BOOT_IMAGE=") {
				tr.cmdline = line
			}
			if line == "@" || strings.HasSuffix(line, " @") { // behind an initrd, or without one
				return tr
			}
		case <-timeout:
			m.t.Fatalf("nothing for ten minutes; it said %v", tr.notes)
		}
	}
}
