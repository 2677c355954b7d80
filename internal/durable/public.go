package durable

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Reader is a file opened for reading only.
type Reader interface {
	io.ReaderAt
	io.Closer
	Size() (int64, error)
}

// OpenRead opens a file that need not be writable. It fails with fs.ErrNotExist if there is none.
func (OS) OpenRead(name string) (Reader, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// Public is the real file system for files that others read, such as those that a web server serves: files are made with
// mode 0644 and directories with 0755, less the umask.
type Public struct{ OS }

// Create implements FS.
func (Public) Create(name string) (File, error) {
	return openPublic(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

// Open implements FS.
func (Public) Open(name string) (File, error) {
	return openPublic(name, os.O_RDWR|os.O_CREATE)
}

func openPublic(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// MkdirAll implements FS.
func (p Public) MkdirAll(dir string) error {
	if st, err := os.Stat(dir); err == nil && st.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := p.MkdirAll(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return p.SyncDir(parent)
}
