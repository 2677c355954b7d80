package bootloader_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/evenkeel-os/evenkeel/bootloader"
	"github.com/evenkeel-os/evenkeel/bootloader/grubenv"
	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/updater"
)

const (
	envPath    = "/efi/evenkeel/grubenv"
	entriesDir = "/efi/evenkeel"
)

func partUUID(s updater.Slot, _ release.Role) (string, error) {
	return "11111111-2222-3333-4444-00000000000" + string(s), nil
}

func adapter(t testing.TB, script bootloader.Script) func(*fixtures.BootFiles) updater.Bootloader {
	return func(f *fixtures.BootFiles) updater.Bootloader {
		o := bootloader.Options{Grubenv: envPath, Script: script, PartUUID: partUUID, Files: f}
		if script == bootloader.ScriptEvenkeel {
			o.Entries = entriesDir
		}
		g, err := bootloader.NewGRUB(o)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
}

// factory is a machine with slot a confirmed and slot b disabled.
func factory(t testing.TB, script fixtures.GRUBScript) *fixtures.GRUBRig {
	t.Helper()
	files := fixtures.NewBootFiles()
	block, err := bootloader.InitialEnv(updater.A)
	if err != nil {
		t.Fatal(err)
	}
	files.Put(envPath, block)
	files.Put(entriesDir+"/a/boot.cfg", entry(t, updater.A))
	files.Put(entriesDir+"/b/boot.cfg", bytes.Replace(entry(t, updater.B), []byte("yes"), []byte("no "), 1))
	fw := fixtures.GRUBFirmware{Files: files, Env: envPath, Entries: entriesDir, Script: script}
	return fixtures.NewGRUBRig(fw, adapter(t, map[fixtures.GRUBScript]bootloader.Script{
		fixtures.EvenkeelScript: bootloader.ScriptEvenkeel, fixtures.RAUCScript: bootloader.ScriptRAUC,
	}[script]))
}

func entry(t testing.TB, s updater.Slot) []byte {
	t.Helper()
	data, err := bootloader.Entry(s, fixtures.BootSpecOf(s), partUUID)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestGRUBKeepsTheContract(t *testing.T) {
	for name, script := range map[string]fixtures.GRUBScript{"our script": fixtures.EvenkeelScript, "RAUC's script": fixtures.RAUCScript} {
		t.Run(name, func(t *testing.T) { fixtures.CheckBootloader(t, factory(t, script)) })
	}
}

// A block that somebody else laid out, with our variables at its end, and a disk that writes sectors in either order.
func TestGRUBKeepsTheContractOnForeignBlocks(t *testing.T) {
	var b grubenv.Block
	for _, kv := range [][2]string{
		{"saved_entry", strings.Repeat("x", 300)},
		{"boot_success", strings.Repeat("1", 150)},
		{"ORDER", "A B"},
		{"A_OK", "1"},
		{"A_TRY", "0"},
		{"B_OK", "1"},
		{"B_TRY", "0"},
	} {
		if err := b.Set(kv[0], kv[1]); err != nil {
			t.Fatal(err)
		}
	}
	foreign, err := b.Format()
	if err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]fixtures.GRUBScript{"our script": fixtures.EvenkeelScript, "RAUC's script": fixtures.RAUCScript} {
		for _, backwards := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				rig := factory(t, script)
				files := rig.Firmware.Files
				files.Backwards = backwards
				files.Put(envPath, foreign)
				files.Put(entriesDir+"/b/boot.cfg", entry(t, updater.B))
				fixtures.CheckBootloader(t, rig)
			})
		}
	}
}

// TestValueTwinsAgree walks every sequence of five verbs and boots on the adapter with the firmware's logic over bytes, and
// on the value twin that the updater's exhaustive test explores: State and the booted slot are the same throughout.
func TestValueTwinsAgree(t *testing.T) {
	for script, kind := range map[fixtures.GRUBScript]fixtures.LoaderKind{
		fixtures.EvenkeelScript: fixtures.OurGRUB, fixtures.RAUCScript: fixtures.RaucGRUB,
	} {
		t.Run(kind.String(), func(t *testing.T) {
			walkTwins(t, factory(t, script), fixtures.NewTwinRig(kind), nil, 5)
		})
	}
}

func walkTwins(t *testing.T, bytes, values fixtures.BootRig, path []string, depth int) {
	t.Helper()
	st, err := bytes.State()
	want, _ := values.State()
	if st != want || err != nil {
		t.Fatalf("after %v: State is %+v, %v, the value twin's %+v", path, st, err, want)
	}
	if depth == 0 {
		return
	}
	for name, op := range twinOps(st, bytes.Caps().MaxTries) {
		b, v := bytes.Clone(), values.Clone()
		if got, want := op(b), op(v); got != want {
			t.Fatalf("after %v, %s: %q, the value twin %q", path, name, got, want)
		}
		walkTwins(t, b, v, append(path[:len(path):len(path)], name), depth-1)
	}
}

// twinOps are what a correct caller may do in a state, each with a result to compare.
func twinOps(st updater.BootState, maxTries int) map[string]func(fixtures.BootRig) string {
	outcome := func(err error) string {
		if err != nil {
			return err.Error()
		}
		return ""
	}
	d, o := st.Default, st.Default.Other()
	return map[string]func(fixtures.BootRig) string{
		"boot": func(r fixtures.BootRig) string {
			s, ok := r.PowerOn()
			return string(s) + map[bool]string{false: " stuck"}[ok]
		},
		"settle":          func(r fixtures.BootRig) string { return outcome(r.Settle()) },
		"disable other":   func(r fixtures.BootRig) string { return outcome(r.Disable(o)) },
		"confirm default": func(r fixtures.BootRig) string { return outcome(r.Confirm(d)) },
		"confirm other":   func(r fixtures.BootRig) string { return outcome(r.Confirm(o)) },
		"try other": func(r fixtures.BootRig) string {
			_, err := r.Try(o, fixtures.BootSpecOf(o), min(2, maxTries))
			return outcome(err)
		},
	}
}
