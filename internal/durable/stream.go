package durable

import (
	"fmt"
	"path/filepath"
)

// Stream is a file too large for WriteFile while it is being written, front to back, under a name that Sweep removes.
// Commit gives it its own name; a power cut before leaves nothing under that name.
type Stream struct {
	fs   FS
	temp string
	f    File
	off  int64
}

// NewStream begins a file in dir, which is made if it does not exist.
func NewStream(fsys FS, dir string) (*Stream, error) {
	if err := fsys.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("cannot begin a file: %w", err)
	}
	temp := filepath.Join(dir, ".stream"+tempMark+unique())
	f, err := fsys.Create(temp)
	if err != nil {
		return nil, fmt.Errorf("cannot begin a file: %w", err)
	}
	return &Stream{fs: fsys, temp: temp, f: f}, nil
}

// Write appends p.
func (s *Stream) Write(p []byte) (int, error) {
	n, err := s.f.WriteAt(p, s.off)
	s.off += int64(n)
	return n, err
}

// Commit makes what was written durable under path, which is in the directory of NewStream, replacing what has that name.
func (s *Stream) Commit(path string) error {
	err := s.f.Sync()
	if cerr := s.f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = s.fs.Rename(s.temp, path)
	}
	if err == nil {
		err = s.fs.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("cannot save %s: %w", path, err)
	}
	s.f = nil
	return nil
}

// Abort removes what was written. After Commit it does nothing.
func (s *Stream) Abort() error {
	if s.f == nil {
		return nil
	}
	_ = s.f.Close()
	return s.fs.Remove(s.temp)
}
