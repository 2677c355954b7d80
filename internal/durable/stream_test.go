package durable_test

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/internal/durable"
)

func stream(fsys durable.FS, parts ...string) error {
	s, err := durable.NewStream(fsys, "/d")
	if err != nil {
		return err
	}
	for _, p := range parts {
		if _, err := s.Write([]byte(p)); err != nil {
			return errors.Join(err, s.Abort())
		}
	}
	if err := s.Commit("/d/file"); err != nil {
		return err
	}
	return s.Abort()
}

// TestStreamCut cuts the power after every step, in every way: the old bytes or the new ones.
func TestStreamCut(t *testing.T) {
	whole := fixtures.NewFS()
	whole.Put("/d/file", []byte("old"))
	if err := stream(whole, "new", " and ", "longer"); err != nil {
		t.Fatal(err)
	}
	if got, err := whole.ReadFile("/d/file"); err != nil || string(got) != "new and longer" {
		t.Fatalf("%q, %v", got, err)
	}
	for n := range whole.Steps() {
		for _, how := range fixtures.Crashes() {
			f := fixtures.NewFS()
			f.Put("/d/file", []byte("old"))
			f.CutAfter(n)
			if err := stream(f, "new", " and ", "longer"); err == nil {
				t.Fatalf("cut after step %d, and no error", n)
			}
			f = f.Crash(how)
			if got, err := f.ReadFile("/d/file"); err != nil || string(got) != "old" && string(got) != "new and longer" {
				t.Errorf("cut after step %d, leaving %v: %q, %v", n, how, got, err)
			}
			if err := durable.Sweep(f, "/d"); err != nil {
				t.Fatal(err)
			}
			if names, _ := f.List("/d"); len(names) != 1 {
				t.Errorf("cut after step %d, leaving %v: %v after a sweep", n, how, names)
			}
		}
	}
}

func TestStreamFullDisk(t *testing.T) {
	f := fixtures.NewFS()
	f.Put("/d/file", []byte("old"))
	f.Limit(6)
	if err := stream(f, "new", " and longer"); err == nil {
		t.Fatal("no error")
	}
	if names, _ := f.List("/d"); len(names) != 1 || names[0] != "file" {
		t.Errorf("left behind: %v", names)
	}
}

// TestReaders: OpenRead of all file systems.
func TestReaders(t *testing.T) {
	dir := t.TempDir()
	for name, f := range map[string]interface {
		durable.FS
		OpenRead(string) (durable.Reader, error)
	}{"real": durable.OS{}, "public": durable.Public{}, "fixture": fixtures.NewFS()} {
		path := filepath.Join(dir, name, "file")
		if _, err := f.OpenRead(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a missing file: %v", name, err)
		}
		if err := durable.WriteFile(f, path, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		r, err := f.OpenRead(path)
		if err != nil {
			t.Fatal(err)
		}
		size, err := r.Size()
		buf := make([]byte, 3)
		if _, rerr := r.ReadAt(buf, 2); rerr != nil || err != nil || size != 5 || !bytes.Equal(buf, []byte("llo")) {
			t.Errorf("%s: %d bytes, %q, %v", name, size, buf, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestMemory holds Memory to what the real file system does.
func TestMemory(t *testing.T) {
	dir := t.TempDir()
	for name, f := range map[string]durable.FS{"real": durable.OS{}, "memory": durable.NewMemory()} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, "sub", "file")
			if _, err := f.ReadFile(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("reading a missing file: %v", err)
			}
			if err := f.Remove(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("removing a missing file: %v", err)
			}
			if err := f.Rename(path, path+"2"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("renaming a missing file: %v", err)
			}
			if _, err := f.List(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("listing a missing directory: %v", err)
			}
			for _, text := range []string{"first", "2nd"} {
				if err := durable.WriteFile(f, path, []byte(text)); err != nil {
					t.Fatal(err)
				}
				if got, err := f.ReadFile(path); err != nil || string(got) != text {
					t.Errorf("%q, %v", got, err)
				}
			}
			if _, err := f.Create(path); !errors.Is(err, fs.ErrExist) {
				t.Errorf("creating an existing file: %v", err)
			}
			inPlace(t, f, path)
			if names, err := f.List(filepath.Dir(path)); err != nil || len(names) != 1 {
				t.Errorf("%v, %v", names, err)
			}
		})
	}
}

func inPlace(t *testing.T, f durable.FS, path string) {
	file, err := f.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt([]byte("x"), 4); err != nil {
		t.Fatal(err)
	}
	if got, _ := f.ReadFile(path); string(got) != "2nd\x00x" {
		t.Errorf("after writing behind the end: %q", got)
	}
	buf := make([]byte, 4)
	if n, err := file.ReadAt(buf, 3); n != 2 || err == nil {
		t.Errorf("reading over the end: %d bytes, %v", n, err)
	}
	if err := file.Truncate(2); err != nil {
		t.Fatal(err)
	}
	if size, err := file.Size(); err != nil || size != 2 {
		t.Errorf("%d bytes, %v", size, err)
	}
}
