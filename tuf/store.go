package tuf

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"

	"github.com/evenkeel-os/evenkeel/internal/durable"
)

// Names of the files in the store that are not metadata.
const (
	marksFile    = "marks"
	completeFile = "complete"
	targetsDir   = "targets"
)

// store keeps the files described in the package's documentation. A file that cannot be used is absent: warn says so.
type store struct {
	fs   durable.FS
	dir  string
	warn func(string)
}

// fileName is safe for every role name: percent-encoded, it holds no slash, and the suffix keeps it from being "..".
func fileName(role string) string { return url.PathEscape(role) + ".json" }

func (s store) path(name string) string { return filepath.Join(s.dir, name) }

// read returns nil if there is no such file, or if it cannot be read.
func (s store) read(name string) []byte {
	data, err := s.fs.ReadFile(s.path(name))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.warn(fmt.Sprintf("%v: going on as if it were not there", err))
		}
		return nil
	}
	if len(data) == 0 {
		s.damaged(name, errors.New("it is empty"))
		return nil
	}
	return data
}

// damaged tells that a file counts as absent.
func (s store) damaged(name string, err error) {
	s.warn(fmt.Sprintf("%s is damaged (%v): going on as if it were not there", s.path(name), err))
}

func (s store) write(name string, data []byte) error {
	return durable.WriteFile(s.fs, s.path(name), data)
}

func (s store) readMarks() marks {
	data := s.read(marksFile)
	if data == nil {
		return newMarks()
	}
	m, err := parseMarks(data)
	if err != nil {
		s.damaged(marksFile, err)
	}
	return m
}

func (s store) writeMarks(m marks) error {
	data, err := m.encode()
	if err != nil {
		return err
	}
	return s.write(marksFile, data)
}

// complete is the last complete and consistent set, in one file because it must never be half of one and half of another.
type complete struct {
	Schema int               `json:"schema"`
	Files  map[string][]byte `json:"files"` // role -> bytes as served
}

func (s store) readComplete() map[string][]byte {
	data := s.read(completeFile)
	if data == nil {
		return nil
	}
	var c complete
	if err := json.Unmarshal(data, &c); err != nil || c.Schema != 1 {
		s.damaged(completeFile, fmt.Errorf("schema %d, %w", c.Schema, err))
		return nil
	}
	return c.Files
}

func (s store) writeComplete(files map[string][]byte) error {
	data, err := json.Marshal(complete{Schema: 1, Files: files})
	if err != nil {
		return err
	}
	return s.write(completeFile, data)
}

// target returns a cached file whose SHA-256 is digest, or nil.
func (s store) target(digest string) []byte {
	name := filepath.Join(targetsDir, digest)
	data := s.read(name)
	if data != nil && digestText(data) != digest {
		s.damaged(name, errors.New("its digest is wrong"))
		return nil
	}
	return data
}

func (s store) writeTarget(data []byte) error {
	return s.write(filepath.Join(targetsDir, digestText(data)), data)
}

// tidy removes unfinished files, and cached targets that keep does not want. Failing to is no harm but a warning.
func (s store) tidy(keep func(digest string) bool) {
	dirs := []string{s.dir, s.path(targetsDir)}
	for _, dir := range dirs {
		if err := durable.Sweep(s.fs, dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.warn(err.Error())
		}
	}
	names, _ := s.fs.List(dirs[1])
	for _, name := range names {
		if !keep(name) {
			if err := s.fs.Remove(filepath.Join(dirs[1], name)); err != nil {
				s.warn(err.Error())
			}
		}
	}
}
