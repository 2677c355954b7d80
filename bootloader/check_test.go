package bootloader_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evenkeel-os/evenkeel/bootloader"
	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/updater"
)

func TestCheck(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*fixtures.BootFiles)
		want  []string
	}{
		{"well", func(*fixtures.BootFiles) {}, nil},
		{"no block", func(f *fixtures.BootFiles) { f.Put(envPath, nil) }, []string{"/grubenv is damaged: the file is missing", "no default slot"}},
		{"no files", func(f *fixtures.BootFiles) {
			f.Put(envPath, nil)
			f.Put(entriesDir+"/a/boot.cfg", nil)
			f.Put(entriesDir+"/b/boot.cfg", nil)
		}, []string{"cannot be read"}},
		{"damaged", func(f *fixtures.BootFiles) { f.Put(envPath, make([]byte, 1024)) }, []string{"not a GRUB environment block", "no default slot"}},
		{"no entry", func(f *fixtures.BootFiles) { f.Put(entriesDir+"/a/boot.cfg", nil) }, []string{"file does not exist"}},
		{"blank entry", func(f *fixtures.BootFiles) { f.Put(entriesDir+"/a/boot.cfg", bootloader.BlankEntry()) }, []string{"not the boot entry of slot a"}},
		{"the other slot is disabled", func(f *fixtures.BootFiles) { f.Put(entriesDir+"/b/boot.cfg", nil) }, nil},
	}
	for _, tt := range tests {
		rig := factory(t, fixtures.EvenkeelScript)
		tt.spoil(rig.Firmware.Files)
		got := rig.Bootloader.(*bootloader.GRUB).Check()
		if len(got) != len(tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
			continue
		}
		for i := range got {
			if !strings.Contains(got[i], tt.want[i]) {
				t.Errorf("%s: %q, want %q", tt.name, got[i], tt.want[i])
			}
		}
	}
}

// What it finds depends on where tests run; nothing but the file system may be wrong.
func TestCheckAsksTheFileSystem(t *testing.T) {
	dir := t.TempDir()
	block, err := bootloader.InitialEnv(updater.A)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "grubenv"), block, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	g, err := bootloader.NewGRUB(bootloader.Options{Grubenv: filepath.Join(dir, "grubenv"), Script: bootloader.ScriptRAUC})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range g.Check() {
		if !strings.Contains(p, "in place") {
			t.Errorf("unexpected: %s", p)
		}
	}
}
