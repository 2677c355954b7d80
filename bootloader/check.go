package bootloader

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/evenkeel-os/evenkeel/updater"
)

// Check looks for what would keep this boot loader from doing its work, and returns one sentence for each. It changes
// nothing.
func (g *GRUB) Check() (problems []string) {
	report := func(err error) {
		if err != nil {
			problems = append(problems, err.Error())
		}
	}
	e, err := g.read()
	if err != nil {
		return []string{fmt.Sprintf("the boot loader's state cannot be read: %v", err)}
	}
	if e.damage != nil {
		report(fmt.Errorf("%s is damaged: %w", g.o.Grubenv, e.damage))
	}
	if _, err := g.format(e.block, e.vars); err != nil {
		report(err)
	}
	st := e.vars.state(g.n, g.o.Script)
	if st.Default == updater.NoSlot {
		report(errors.New("the boot loader's variables name no default slot"))
	}
	for _, s := range []updater.Slot{updater.A, updater.B} {
		if g.o.Entries != "" && st.Enabled(s) {
			report(g.checkEntry(s))
		}
	}
	if _, real := g.o.Files.(OSFiles); real {
		report(checkFileSystem(filepath.Dir(g.o.Grubenv)))
	}
	return problems
}

func (g *GRUB) checkEntry(s updater.Slot) error {
	data, err := g.o.Files.Read(g.entryPath(s))
	if err == nil && !usable(data, s) {
		err = fmt.Errorf("%s is not the boot entry of slot %s, which is enabled", g.entryPath(s), s)
	}
	return err
}

// checkFileSystem refuses file systems that never write in place: GRUB changes the disk blocks that it finds.
func checkFileSystem(path string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return fmt.Errorf("cannot look at the file system of %s: %w", path, err)
	}
	kinds := map[int64]string{
		unix.BTRFS_SUPER_MAGIC: "btrfs", 0x2fc12fc1: "zfs", unix.F2FS_SUPER_MAGIC: "f2fs", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs",
		unix.SQUASHFS_MAGIC: "squashfs", unix.NFS_SUPER_MAGIC: "nfs",
	}
	if kind, bad := kinds[int64(st.Type)]; bad {
		return fmt.Errorf("%s lies on %s, where GRUB cannot change it in place: use the EFI system partition", path, kind)
	}
	return nil
}
