package vmtest

import (
	"bytes"
	_ "embed"
	"fmt"
	"path"
	"strings"
)

//go:embed initrd-init
var initrdInit []byte

// initrdModules are what it takes to see the root, and what must be there however early the boot ends: the watchdog, and a
// place for the kernel's last words.
var initrdModules = []string{"virtio_pci", "virtio_blk", "squashfs", "i6300esb", "efi_pstore", "virtio_net"} //nolint:gochecknoglobals // a constant

// initrd makes an initial RAM disk out of the base: busybox, blkid, the modules in the order in which they are loaded. It
// is not compressed: the packs are, and the machine that unpacks it is a slow one.
func initrd(base *tree, kernel string) ([]byte, error) {
	a := cpio{seen: map[string]bool{}}
	var list strings.Builder
	loaded := map[string]bool{}
	for _, name := range initrdModules {
		if err := a.module(base, kernel, name, &list, loaded); err != nil {
			return nil, err
		}
	}
	a.file("modules.list", 0o644, []byte(list.String()))
	a.file("init", 0o755, initrdInit)
	for _, name := range []string{
		"bin/busybox", "sbin/blkid", "lib64/ld-linux-x86-64.so.2", "lib/x86_64-linux-gnu/libc.so.6", "lib/x86_64-linux-gnu/libblkid.so.1",
	} {
		n, err := base.resolve(name)
		if err != nil {
			return nil, err
		}
		a.file(name, 0o755, n.data)
	}
	for _, applet := range []string{"sh", "mount", "umount", "insmod", "sleep", "switch_root"} {
		a.parents("bin/" + applet)
		a.entry("bin/"+applet, 0o120777, []byte("busybox"))
	}
	for _, dir := range []string{"dev", "proc", "sys", "root"} {
		a.dir(dir)
	}
	return a.end(), nil
}

// module adds a module behind those that it needs.
func (a *cpio) module(base *tree, kernel, name string, list *strings.Builder, loaded map[string]bool) error {
	dir := "usr/lib/modules/" + kernel
	deps := base.files[dir+"/modules.dep"]
	if deps == nil {
		return fmt.Errorf("there is no %s/modules.dep in the base", dir)
	}
	for line := range strings.Lines(string(deps.data)) {
		file, needs, _ := strings.Cut(strings.TrimSpace(line), ":")
		if strings.ReplaceAll(strings.TrimSuffix(path.Base(file), ".ko"), "-", "_") != name {
			continue
		}
		all := strings.Fields(needs)
		for i := len(all) - 1; i >= -1; i-- {
			next := file
			if i >= 0 {
				next = all[i]
			}
			if loaded[next] {
				continue
			}
			n := base.files[dir+"/"+next]
			if n == nil {
				return fmt.Errorf("there is no module %s in the base", next)
			}
			loaded[next] = true
			a.file("modules/"+path.Base(next), 0o644, n.data)
			fmt.Fprintln(list, path.Base(next))
		}
		return nil
	}
	return fmt.Errorf("there is no module %s in the base", name)
}

// cpio is an archive in the "newc" format, which the kernel unpacks.
type cpio struct {
	bytes.Buffer
	seen map[string]bool
	ino  int
}

func (a *cpio) file(name string, mode int, data []byte) {
	a.parents(name)
	a.entry(name, 0o100000|mode, data)
}

func (a *cpio) parents(name string) {
	dir := path.Dir(name)
	if dir == "." || a.seen[dir] {
		return
	}
	a.parents(dir)
	a.dir(dir)
}

func (a *cpio) dir(name string) {
	a.seen[name] = true
	a.entry(name, 0o40755, nil)
}

func (a *cpio) entry(name string, mode int, data []byte) {
	a.ino++
	fmt.Fprintf(a, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", a.ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	a.WriteString(name + "\x00")
	a.pad()
	a.Write(data)
	a.pad()
}

func (a *cpio) pad() { a.Write(make([]byte, (4-a.Len()%4)%4)) }

func (a *cpio) end() []byte {
	a.entry("TRAILER!!!", 0, nil)
	return a.Bytes()
}
