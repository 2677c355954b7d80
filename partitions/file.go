package partitions

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/updater"
	"golang.org/x/sys/unix"
)

// bootEntry is the boot loader's file in a slot's directory; it is not an image, and stays.
const bootEntry = "boot.cfg"

// openFile opens the file of an image in dir. For writing, the file gets its final size at once and is then changed in
// place: the slot cannot be chosen meanwhile, what is right already is found by reading, no second copy has to fit into a
// small EFI system partition, and nothing is ever renamed over an existing name, which is not power-safe on FAT.
func (s *Slots) openFile(dir string, im release.Image, p purpose) (updater.TargetCloser, error) {
	if err := checkName(im.Name); err != nil {
		return nil, err
	}
	at := place{path: filepath.Join(dir, im.Name), at: extent{Size: im.Size}, align: page}
	if p == reading {
		t, err := openTarget(at, os.O_RDONLY, false)
		if err != nil {
			return nil, err
		}
		return t, nil
	}
	if err := s.mayWriteDir(dir); err != nil {
		return nil, err
	}
	if err := reserve(at.path, im.Size); err != nil {
		return nil, err
	}
	t, err := openTarget(at, os.O_RDWR, false)
	if err != nil {
		return nil, err
	}
	t.onSync = func() error { return syncDir(dir) }
	return t, nil
}

// checkName refuses names that leave the directory, and the boot loader's own file.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\\\x00") || strings.EqualFold(name, bootEntry) {
		return fmt.Errorf("the release names the file %q: want a plain file name other than %s", name, bootEntry)
	}
	return nil
}

// mayWriteDir returns why nobody may write below dir now.
func (s *Slots) mayWriteDir(dir string) error {
	d, err := s.openDisk()
	if err != nil {
		return err
	}
	if problems := s.layoutProblems(d); len(problems) > 0 {
		return fmt.Errorf("the layout of %s is not safe: %s", d.path, strings.Join(problems, "; "))
	}
	return s.espProblem(dir)
}

// espProblem returns an error when dir is not on the EFI system partition, mounted for writing.
func (s *Slots) espProblem(dir string) error {
	if s.o.ESP == "" {
		return nil
	}
	ms, err := s.host.mounts()
	if err != nil {
		return err
	}
	m, _ := mountOf(ms, dir)
	switch {
	case m.point != filepath.Clean(s.o.ESP):
		return fmt.Errorf("no EFI system partition is mounted at %s: mount it first", s.o.ESP)
	case m.readOnly:
		return fmt.Errorf("%s (%s) is mounted read-only: after an error of the file system check it (fsck.vfat), then mount it again", m.point, m.source)
	}
	return nil
}

// reserve makes the file exist with exactly size bytes of space, and says before it starts when they cannot fit.
func reserve(path string, size int64) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	old := int64(0)
	info, err := os.Lstat(path)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("%s is no regular file: remove it", path)
	case err == nil:
		old = info.Size()
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if old == size && err == nil {
		return nil
	}
	if err := fits(dir, size-old); err != nil {
		return fmt.Errorf("%s needs %d bytes: %w", filepath.Base(path), size, err)
	}
	return resize(path, size, err != nil)
}

func fits(dir string, more int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err
	}
	free := int64(st.Bavail) * st.Bsize
	if need := (more + st.Bsize - 1) / st.Bsize * st.Bsize; need > free {
		return fmt.Errorf("that is %d more than there is now, and %s has %d bytes free: "+
			"remove what does not belong there, or make the partition larger", more, dir, free)
	}
	return nil
}

// resize gives path its size. A file that was not there before and does not fit is removed again.
func resize(path string, size int64, fresh bool) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil && fresh {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	if err := f.Truncate(size); err != nil {
		return fmt.Errorf("cannot give %s %d bytes: %w", path, size, err)
	}
	// FAT has no holes, so Truncate took the space there; elsewhere only this does.
	if err := unix.Fallocate(int(f.Fd()), 0, 0, size); err != nil && size > 0 && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("cannot reserve %d bytes for %s: %w", size, path, err)
	}
	return errors.Join(f.Sync(), syncDir(filepath.Dir(path)))
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("cannot flush %s: %w", dir, err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("cannot flush %s: %w", dir, err)
	}
	return nil
}

// Prune removes from the directories of slot every file that is no image of the release and not the boot loader's: what
// releases with other file names left behind. It leaves directories alone. It refuses the running slot. Call it before the first Target of a release.
func (s *Slots) Prune(slot updater.Slot, images []release.Image) error {
	run, err := s.Running()
	if err != nil {
		return fmt.Errorf("cannot tidy slot %s: %w", slot, err)
	}
	if run == slot {
		return fmt.Errorf("cannot tidy slot %s: this system runs from it", slot)
	}
	for _, r := range s.o.Roles {
		if r.Kind != release.KindFile {
			continue
		}
		dir := r.Place(slot).Dir
		if err := s.mayWriteDir(dir); err != nil {
			return fmt.Errorf("cannot tidy %s: %w", dir, err)
		}
		if err := prune(dir, images); err != nil {
			return fmt.Errorf("cannot tidy %s: %w", dir, err)
		}
	}
	return nil
}

func prune(dir string, images []release.Image) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	removed := false
	for _, e := range entries {
		ours := slices.ContainsFunc(images, func(im release.Image) bool {
			return im.Kind == release.KindFile && strings.EqualFold(im.Name, e.Name())
		})
		if ours || ofLoader(e.Name()) || !e.Type().IsRegular() {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
		removed = true
	}
	if !removed {
		return nil
	}
	return syncDir(dir)
}

// ofLoader: without this file the machine may not start, whatever a configuration says of its directory.
func ofLoader(name string) bool {
	return slices.Contains([]string{bootEntry, "grubenv", "grub.cfg"}, strings.ToLower(name))
}
