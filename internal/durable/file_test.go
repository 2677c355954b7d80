package durable_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/internal/durable"
)

// TestWriteFileSurvivesEveryCut cuts the power after each step of replacing a file, in every way in which a file system
// may lose what was not synced.
func TestWriteFileSurvivesEveryCut(t *testing.T) {
	old, fresh := []byte("the old bytes"), []byte("the new bytes, which are more")
	for n := 0; ; n++ {
		disk := fixtures.NewFS()
		disk.Put("/state/file", old)
		disk.CutAfter(n)
		err := durable.WriteFile(disk, "/state/file", fresh)
		for _, how := range fixtures.Crashes() {
			got, rerr := disk.Crash(how).ReadFile("/state/file")
			if rerr != nil {
				t.Fatalf("cut after %d steps, %v: %v", n, how, rerr)
			}
			if !bytes.Equal(got, old) && !bytes.Equal(got, fresh) {
				t.Errorf("cut after %d steps, %v: neither old nor new bytes: %q", n, how, got)
			}
			if err == nil && !bytes.Equal(got, fresh) {
				t.Errorf("cut after %d steps, %v: WriteFile returned nil and the bytes are %q", n, how, got)
			}
		}
		if err == nil {
			if n < 4 {
				t.Errorf("WriteFile took %d steps: too few to be durable", n)
			}
			return
		}
		if !errors.Is(err, fixtures.ErrPowerCut) {
			t.Fatalf("cut after %d steps: %v", n, err)
		}
	}
}

func TestWriteFileNewFileSurvivesEveryCut(t *testing.T) {
	for n := 0; ; n++ {
		disk := fixtures.NewFS()
		disk.CutAfter(n)
		err := durable.WriteFile(disk, "/state/tuf/file", []byte("new"))
		for _, how := range fixtures.Crashes() {
			got, rerr := disk.Crash(how).ReadFile("/state/tuf/file")
			switch {
			case err != nil && errors.Is(rerr, fs.ErrNotExist):
			case rerr != nil:
				t.Fatalf("cut after %d steps, %v: %v", n, how, rerr)
			case string(got) != "new":
				t.Errorf("cut after %d steps, %v: %q", n, how, got)
			}
		}
		if err == nil {
			return
		}
	}
}

// TestWriteFileFailures lets each step fail once without a cut: the old file stays, and nothing unfinished remains.
func TestWriteFileFailures(t *testing.T) {
	for _, op := range []string{"create", "write", "sync", "rename"} {
		t.Run(op, func(t *testing.T) {
			disk := fixtures.NewFS()
			disk.Put("/state/file", []byte("old"))
			disk.Fail(func(o, _ string) error {
				if o == op {
					return syscall.EIO
				}
				return nil
			})
			err := durable.WriteFile(disk, "/state/file", []byte("new"))
			if !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "/state/file") {
				t.Errorf("error = %v, want an I/O error that names the file", err)
			}
			if got, _ := disk.ReadFile("/state/file"); string(got) != "old" {
				t.Errorf("content = %q, want the old bytes", got)
			}
			if names, _ := disk.List("/state"); len(names) != 1 {
				t.Errorf("files = %q, want the old one alone", names)
			}
		})
	}
}

func TestSweepRemovesOnlyWhatIsUnfinished(t *testing.T) {
	disk := fixtures.NewFS()
	disk.Put("/state/file", []byte("old"))
	disk.Put("/state/.hidden", []byte("not ours"))
	disk.CutAfter(2) // made and written, not yet renamed
	if err := durable.WriteFile(disk, "/state/file", []byte("new")); err == nil {
		t.Fatal("the power was not cut")
	}
	after := disk.Crash(fixtures.CrashKeepAll)
	if names, _ := after.List("/state"); len(names) != 3 {
		t.Fatalf("after the cut: %q, want an unfinished file too", names)
	}
	if err := durable.Sweep(after, "/state"); err != nil {
		t.Fatal(err)
	}
	names, _ := after.List("/state")
	if len(names) != 2 || strings.Contains(fmt.Sprint(names), "unfinished") {
		t.Errorf("after Sweep: %q", names)
	}
}

func TestRemoveIsDurableAndIdempotent(t *testing.T) {
	disk := fixtures.NewFS()
	disk.Put("/state/file", []byte("old"))
	for range 2 {
		if err := durable.Remove(disk, "/state/file"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := disk.Crash(fixtures.CrashLoseAll).ReadFile("/state/file"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after a cut: %v, want no file", err)
	}
}

func TestOSFileSystem(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	path := filepath.Join(dir, "file")
	for _, content := range []string{"first", "second, longer", ""} {
		if err := durable.WriteFile(durable.OS{}, path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Fatalf("content = %q, %v, want %q", got, err, content)
		}
	}
	names, err := durable.OS{}.List(dir)
	if err != nil || len(names) != 1 {
		t.Errorf("files = %q, %v, want one", names, err)
	}
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v, want 0600", st.Mode())
	}
	if err := durable.WriteFile(durable.OS{}, filepath.Join(path, "below", "a-file"), nil); err == nil {
		t.Error("a directory was made below a file")
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := durable.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = durable.Lock(path)
	var held *durable.HeldError
	if !errors.As(err, &held) || held.PID != os.Getpid() {
		t.Errorf("second lock: %v, want a HeldError with pid %d", err, os.Getpid())
	}
	if want := fmt.Sprintf("process %d", os.Getpid()); !strings.Contains(err.Error(), want) {
		t.Errorf("message %q does not say %q", err, want)
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	again, err := durable.Lock(path)
	if err != nil {
		t.Fatalf("after Unlock: %v", err)
	}
	_ = again.Unlock()
	if _, err := durable.Lock(filepath.Join(path, "x")); err == nil {
		t.Error("a lock below a file was given")
	}
}
