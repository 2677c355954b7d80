// Package durable is the only way in which a file of Evenkeel's own is persisted.
//
// A power cut may come between any two instructions. What it leaves is told by three rules of POSIX file systems: bytes
// are durable once the file was fsynced; a name is durable once its directory was fsynced; and rename is atomic, so that
// a name stands for the old file or for the new one. Everything here is built from those three.
//
//   - WriteFile replaces a small file as a whole: the old bytes or the new ones, never a mixture, never an empty file.
//   - Cell saves a bounded value in place, on a full disk too, in two generations.
//   - Log appends lines to a bounded file, tolerates a torn end, and goes on when the disk is full.
//   - Lock keeps a second process out, and says who holds it.
//
// The file system is a parameter, so that tests can cut the power after every single step: see fixtures.FS.
package durable

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// FS is what this package needs of a file system. Errors satisfy errors.Is with fs.ErrNotExist and syscall.ENOSPC where
// they mean that.
type FS interface {
	// ReadFile returns the whole content of a file.
	ReadFile(name string) ([]byte, error)
	// Create makes a new, empty file for writing. It fails with fs.ErrExist if there is one.
	Create(name string) (File, error)
	// Open opens a file for reading and writing in place; it is created if it does not exist.
	Open(name string) (File, error)
	// Rename gives a file a new name, atomically, replacing what has that name.
	Rename(from, to string) error
	// Remove removes a file. A file that does not exist is fs.ErrNotExist.
	Remove(name string) error
	// List returns the names in a directory, in no particular order.
	List(dir string) ([]string, error)
	// MkdirAll makes a directory and its parents, durably.
	MkdirAll(dir string) error
	// SyncDir makes the names in a directory durable.
	SyncDir(dir string) error
}

// File is an open file. Sync makes its bytes and its size durable, but not its name.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	Sync() error
}

// OS is the real file system. Files are made with mode 0600 and directories with 0700.
type OS struct{}

// ReadFile implements FS.
func (OS) ReadFile(name string) ([]byte, error) { return os.ReadFile(name) }

// Create implements FS.
func (OS) Create(name string) (File, error) {
	return osOpen(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

// Open implements FS.
func (OS) Open(name string) (File, error) {
	return osOpen(name, os.O_RDWR|os.O_CREATE)
}

// Rename implements FS.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove implements FS.
func (OS) Remove(name string) error { return os.Remove(name) }

// List implements FS.
func (OS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}

// MkdirAll implements FS.
func (o OS) MkdirAll(dir string) error {
	if st, err := os.Stat(dir); err == nil && st.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := o.MkdirAll(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return o.SyncDir(parent)
}

// SyncDir implements FS. A file system that cannot fsync directories (EINVAL) has nothing to promise, and is taken as is.
func (OS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	return nil
}

type osFile struct{ *os.File }

func osOpen(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}
