package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"unsafe"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/partition/gpt"
	"golang.org/x/sys/unix"
)

const (
	mib    = 1 << 20
	sector = 512
	labelA = "root-a"
	labelB = "root-b"
)

// disk is a loop device over a file on a real disk, with two slots. Slot a is the one that "runs".
type disk struct {
	path string // of the file
	dev  string // /dev/loopN
	root string // the machine's proc, sys and dev
	size int64  // of a slot
}

// newDisk makes a disk in dir whose slots have size bytes. Its blocks are all allocated before anything is measured.
func newDisk(ctx context.Context, dir string, size int64) (d *disk, err error) {
	d = &disk{path: filepath.Join(dir, "disk.img"), root: filepath.Join(dir, "machine"), size: size}
	if err := d.makeTable(); err != nil {
		return nil, fmt.Errorf("cannot make a disk: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	out, err := output(ctx, "losetup", "--find", "--show", "--direct-io=on", d.path)
	if err != nil {
		return d, err
	}
	d.dev = strings.TrimSpace(out)
	if dio := readLine("/sys/block/" + filepath.Base(d.dev) + "/loop/dio"); dio != "1" {
		return d, fmt.Errorf("%s does no direct I/O to %s, so that nothing measured on it would say anything: use another file system", d.dev, d.path)
	}
	if _, err := output(ctx, "partx", "--add", d.dev); err != nil {
		return d, err
	}
	return d, d.makeMachine()
}

func (d *disk) makeTable() error {
	if err := os.RemoveAll(d.path); err != nil {
		return err
	}
	f, err := os.Create(d.path)
	if err != nil {
		return err
	}
	defer f.Close()
	table := &gpt.Table{LogicalSectorSize: sector, PhysicalSectorSize: sector, ProtectiveMBR: true}
	for i, label := range []string{labelA, labelB} {
		start := mib + int64(i)*d.size
		table.Partitions = append(table.Partitions, &gpt.Partition{
			Index: i + 1, Start: uint64(start / sector), End: uint64((start+d.size)/sector - 1), Size: uint64(d.size), Name: label, Type: gpt.LinuxFilesystem,
		})
	}
	size := 2*mib + 2*d.size
	if err := f.Truncate(size); err != nil {
		return err
	}
	w, err := file.New(f, false).Writable()
	if err != nil {
		return err
	}
	return table.Write(w, size)
}

// makeMachine makes what the kernel would show of a machine that was booted from slot a. Devices are the host's own.
func (d *disk) makeMachine() error {
	name := filepath.Base(d.dev)
	links := map[string]string{"dev": "/dev"}
	for _, dir := range []string{"/sys/block/" + name, d.sys(1), d.sys(2)} {
		links["sys/dev/block/"+readLine(dir+"/dev")] = dir
	}
	files := map[string]string{
		"proc/cmdline":        "evenkeel.slot=a\n",
		"proc/swaps":          "Filename Type Size Used Priority\n",
		"proc/self/mountinfo": "22 1 " + readLine(d.sys(1)+"/dev") + " / / ro - ext4 /dev/root ro\n",
	}
	if err := os.RemoveAll(d.root); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(d.root, name)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(d.root, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	for name, to := range links {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(d.root, name)), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(to, filepath.Join(d.root, name)); err != nil {
			return err
		}
	}
	return nil
}

// sys is where sysfs describes partition n.
func (d *disk) sys(n int) string {
	name := filepath.Base(d.dev)
	return fmt.Sprintf("/sys/block/%s/%sp%d", name, name, n)
}

// slot is the device of slot a or b.
func (d *disk) slot(label string) string {
	if label == labelA {
		return d.dev + "p1"
	}
	return d.dev + "p2"
}

func (d *disk) close() error {
	var errs []error
	if d.dev != "" {
		for _, args := range [][]string{{"partx", "--delete", d.dev}, {"losetup", "--detach", d.dev}} {
			_, err := output(context.Background(), args[0], args[1:]...)
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, os.RemoveAll(d.path), os.RemoveAll(d.root))...)
}

// content is what a slot holds before an installation.
type content func(d *disk, slot string) error

// other fills a slot with bytes that no image has, so that nothing can be reused.
func other(d *disk, slot string) error {
	noise := alignedBuffer(4 * mib)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(noise) // never fails
	return d.overwrite(slot, func(off int64) ([]byte, error) {
		for i := 0; i < len(noise); i += 4096 {
			binary.LittleEndian.PutUint64(noise[i:], uint64(off)+uint64(i)+1)
		}
		return noise, nil
	})
}

// empty makes a slot read as zeros, with nothing allocated.
func empty(d *disk, slot string) error {
	_, err := output(context.Background(), "blkdiscard", "--zeroout", d.slot(slot))
	return err
}

// holding fills a slot with an image.
func holding(path string) content {
	return func(d *disk, slot string) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		b := alignedBuffer(4 * mib)
		return d.overwrite(slot, func(off int64) ([]byte, error) {
			n, err := f.ReadAt(b, off)
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return b[:n], err
		})
	}
}

// overwrite writes a slot from its first byte to its last, or until next has no more, with direct I/O.
func (d *disk) overwrite(slot string, next func(off int64) ([]byte, error)) error {
	f, err := os.OpenFile(d.slot(slot), os.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for off := int64(0); off < d.size; {
		b, err := next(off)
		if err != nil || len(b) == 0 {
			return errors.Join(err, f.Sync())
		}
		n, err := f.WriteAt(b[:min(int64(len(b)), d.size-off)], off)
		if err != nil {
			return fmt.Errorf("cannot prepare slot %s: %w", slot, err)
		}
		off += int64(n)
	}
	return f.Sync()
}

// settle leaves nothing to be written back, and nothing cached.
func (d *disk) settle() error {
	f, err := os.Open(d.path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return err
	}
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3\n"), 0)
}

func alignedBuffer(n int) []byte {
	b := make([]byte, n+4096)
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & 4095
	return b[skip : skip+n : skip+n]
}

func readLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// output runs a command to its end.
func output(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("cannot run %s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}
