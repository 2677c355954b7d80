package bootloader

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Files is how the loader's files are read and written. The real one is OSFiles; fixtures.BootFiles loses power.
type Files interface {
	// Read returns the whole file as the medium holds it, not as a cache does, and everything in it is durable.
	Read(path string) ([]byte, error)
	// Write overwrites part of an existing file in place, and returns when it is durable. It never changes the size, nor
	// where the file lies on the disk. A range within one sector is written whole or not at all.
	Write(path string, off int64, p []byte) error
	// Make gives the file exactly this content, durably, whether it existed or not. A power cut may leave any mixture.
	Make(path string, data []byte) error
}

// maxFile bounds what Read returns; the loader's files are far smaller.
const maxFile = 64 << 10

// OSFiles are the files of the running system.
type OSFiles struct{}

// Read implements Files.
func (OSFiles) Read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, hint(err)
	}
	defer f.Close()
	// What a process wrote before it crashed may still be on its way; only clean pages can be dropped.
	if err := f.Sync(); err != nil {
		return nil, hint(err)
	}
	// Best effort: a file system without pages to drop has no cache that could lie.
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes: this is not a boot loader's file", path, maxFile)
	}
	return data, err
}

// Write implements Files.
func (OSFiles) Write(path string, off int64, p []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return hint(err)
	}
	st, err := f.Stat()
	if err == nil && st.Size() < off+int64(len(p)) {
		err = fmt.Errorf("%s has %d bytes: writing to byte %d would make it grow", path, st.Size(), off+int64(len(p)))
	}
	if err == nil {
		_, err = f.WriteAt(p, off)
	}
	if err == nil {
		err = f.Sync()
	}
	return hint(errors.Join(err, f.Close()))
}

// Make implements Files.
func (OSFiles) Make(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return hint(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return hint(err)
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Truncate(int64(len(data)))
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return hint(err)
	}
	return hint(syncDir(filepath.Dir(path)))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// hint adds what to do about the errors that people meet.
func hint(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: is the boot partition mounted there?", err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: after an error of the file system check it (fsck.vfat), then mount it read-write", err)
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w: remove what does not belong on the boot partition", err)
	}
	return err
}
