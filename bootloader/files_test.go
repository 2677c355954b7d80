package bootloader_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evenkeel-os/evenkeel/bootloader"
	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/updater"
)

// TestGRUBOnRealFiles runs one update on the file system of the machine that runs the test.
func TestGRUBOnRealFiles(t *testing.T) {
	dir := t.TempDir()
	env := filepath.Join(dir, "grubenv")
	block, err := bootloader.InitialEnv(updater.A)
	if err == nil {
		err = os.WriteFile(env, block, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	g, err := bootloader.NewGRUB(bootloader.Options{Grubenv: env, Entries: dir, Script: bootloader.ScriptEvenkeel, PartUUID: partUUID})
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(env)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Try(updater.B, fixtures.BootSpecOf(updater.B), 2); err != nil {
		t.Fatal(err)
	}
	want := updater.BootState{Default: updater.A, Trial: updater.Trial{Slot: updater.B, TriesLeft: 2}, EnabledA: true, EnabledB: true}
	if st, err := g.State(); err != nil || st != want {
		t.Errorf("State is %+v, %v, want %+v", st, err, want)
	}
	got, err := os.ReadFile(filepath.Join(dir, "b/boot.cfg"))
	if err != nil || !bytes.Equal(got, entry(t, updater.B)) {
		t.Errorf("the boot entry is %v\n%s", err, got)
	}
	if err := errors.Join(g.Confirm(updater.B), g.Disable(updater.A), g.Settle()); err != nil {
		t.Error(err)
	}
	after, err := os.Stat(env)
	if err != nil || !os.SameFile(before, after) || after.Size() != 1024 {
		t.Errorf("the environment block is another file, or of another size: %v, %v", after, err)
	}
}

func TestOSFilesWriteNeverGrows(t *testing.T) {
	f, path := bootloader.OSFiles{}, filepath.Join(t.TempDir(), "f")
	if err := f.Write(path, 0, []byte("x")); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "mounted") {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := f.Make(path, []byte("0123456789")); err != nil {
		t.Fatal(err)
	}
	if err := f.Write(path, 8, []byte("abc")); err == nil || !strings.Contains(err.Error(), "grow") {
		t.Errorf("past the end: %v", err)
	}
	if err := f.Write(path, 2, []byte("ab")); err != nil {
		t.Error(err)
	}
	if got, err := f.Read(path); err != nil || string(got) != "01ab456789" {
		t.Errorf("it holds %q, %v", got, err)
	}
	if err := f.Make(path, []byte("short")); err != nil {
		t.Error(err)
	}
	if got, err := f.Read(path); err != nil || string(got) != "short" {
		t.Errorf("it holds %q, %v", got, err)
	}
}

func TestOSFilesReadIsBounded(t *testing.T) {
	f, path := bootloader.OSFiles{}, filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Read(path); err == nil || !strings.Contains(err.Error(), "more than 65536 bytes") {
		t.Errorf("a megabyte: %v", err)
	}
}
