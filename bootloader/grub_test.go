package bootloader_test

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/evenkeel-os/evenkeel/bootloader"
	"github.com/evenkeel-os/evenkeel/bootloader/grubenv"
	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/updater"
)

func get(t *testing.T, f *fixtures.BootFiles, name string) string {
	t.Helper()
	b, err := grubenv.Parse(f.Get(envPath))
	if err != nil {
		t.Fatal(err)
	}
	v, _ := b.Get(name)
	return v
}

func TestNewGRUBRefuses(t *testing.T) {
	ok := bootloader.Options{Grubenv: "/e", Entries: "/d", Script: bootloader.ScriptEvenkeel}
	tests := []struct {
		name string
		edit func(*bootloader.Options)
		want string
	}{
		{"no path", func(o *bootloader.Options) { o.Grubenv = "" }, "path"},
		{"no script", func(o *bootloader.Options) { o.Script = "" }, `want "evenkeel" or "rauc"`},
		{"no entries", func(o *bootloader.Options) { o.Entries = "" }, "boot entries"},
		{"other names", func(o *bootloader.Options) { o.NameA = "system0" }, "named A and B"},
		{"one name", func(o *bootloader.Options) { o.Script, o.NameA, o.NameB = "rauc", "X", "X" }, "both slots"},
		{"an odd name", func(o *bootloader.Options) { o.Script, o.NameA = "rauc", "A B" }, "letters"},
		{"a long name", func(o *bootloader.Options) { o.Script, o.NameA = "rauc", strings.Repeat("x", 33) }, "32"},
	}
	if _, err := bootloader.NewGRUB(ok); err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		o := ok
		tt.edit(&o)
		if _, err := bootloader.NewGRUB(o); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one with %q", tt.name, err, tt.want)
		}
	}
}

// The variables as RAUC and people see them.
func TestVariables(t *testing.T) {
	rig := factory(t, fixtures.EvenkeelScript)
	show := func() string {
		b, err := grubenv.Parse(rig.Firmware.Files.Get(envPath))
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for name, value := range b.All() {
			out = append(out, name+"="+value)
		}
		return strings.Join(out, " ")
	}
	steps := []struct {
		name string
		run  func() error
		want string
	}{
		{
			"factory", func() error { return nil },
			"ORDER=A A_OK=1 A_TRY=0 B_OK=0 B_TRY=0 evenkeel_trial= evenkeel_tries=0 evenkeel_failed=-",
		},
		{
			"try", func() error { _, err := rig.Try(updater.B, fixtures.BootSpecOf(updater.B), 3); return err },
			"ORDER=B A A_OK=1 A_TRY=0 B_OK=1 B_TRY=0 evenkeel_trial=b evenkeel_tries=3 evenkeel_failed=-",
		},
		{
			"boot", func() error { rig.Firmware.Boot(); return nil },
			"ORDER=B A A_OK=1 A_TRY=0 B_OK=1 B_TRY=0 evenkeel_trial=b evenkeel_tries=2 evenkeel_failed=-",
		},
		{
			"confirm", func() error { return rig.Confirm(updater.B) },
			"ORDER=B A A_OK=1 A_TRY=0 B_OK=1 B_TRY=0 evenkeel_trial= evenkeel_tries=0 evenkeel_failed=-",
		},
		{
			"disable", func() error { return rig.Disable(updater.A) },
			"ORDER=B A_OK=0 A_TRY=0 B_OK=1 B_TRY=0 evenkeel_trial= evenkeel_tries=0 evenkeel_failed=-",
		},
	}
	for _, s := range steps {
		if err := s.run(); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if got := show(); got != s.want {
			t.Errorf("%s: the block holds\n%s\nwant\n%s", s.name, got, s.want)
		}
	}
}

func TestForeignVariablesStay(t *testing.T) {
	rig := factory(t, fixtures.RAUCScript)
	foreign := "saved_entry=x\\\\y\n# a comment\nORDER=R system0 A\nA_OK=1\nsaved_entry=z\nboot_counter=-1\n"
	text := "# GRUB Environment Block\n# WARNING: hands off\n" + foreign
	rig.Firmware.Files.Put(envPath, []byte(text+strings.Repeat("#", grubenv.Size-len(text))))
	if _, err := rig.Try(updater.B, release.BootSpec{}, 1); err != nil {
		t.Fatal(err)
	}
	got := string(rig.Firmware.Files.Get(envPath))
	for _, want := range []string{"# WARNING: hands off\nORDER=B R system0 A\n", "#\nsaved_entry=x\\\\y\n# a comment\nsaved_entry=z\nboot_counter=-1\n###"} {
		if !strings.Contains(got, want) {
			t.Errorf("the block has no %q:\n%s", want, got)
		}
	}
}

func TestNamesOfRAUC(t *testing.T) {
	files := fixtures.NewBootFiles()
	text := "# GRUB Environment Block\nORDER=system0\nsystem0_OK=1\nsystem0_TRY=1\n"
	files.Put(envPath, []byte(text+strings.Repeat("#", grubenv.Size-len(text))))
	g, err := bootloader.NewGRUB(bootloader.Options{
		Grubenv: envPath, Script: bootloader.ScriptRAUC, NameA: "system0", NameB: "system1", Files: files,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Try(updater.B, fixtures.BootSpecOf(updater.B), 1); err != nil {
		t.Fatal(err)
	}
	if err := g.Settle(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"ORDER": "system1 system0", "system1_OK": "1", "system1_TRY": "0", "system0_TRY": "0"} {
		if got := get(t, files, name); got != want {
			t.Errorf("%s=%s, want %s", name, got, want)
		}
	}
}

func TestState(t *testing.T) {
	a, b := updater.A, updater.B
	tests := []struct {
		name   string
		script fixtures.GRUBScript
		lines  string
		want   updater.BootState
	}{
		{"empty", fixtures.EvenkeelScript, "", updater.BootState{}},
		{"RAUC presets an order, but no slot is good", fixtures.RAUCScript, "", updater.BootState{}},
		{"RAUC's preset order", fixtures.RAUCScript, "B_OK=1\n", updater.BootState{Default: b, EnabledB: true}},
		{"no preset of ours", fixtures.EvenkeelScript, "B_OK=1\n", updater.BootState{}},
		{"both", fixtures.EvenkeelScript, "ORDER=B A\nA_OK=1\nB_OK=1\n", updater.BootState{Default: b, EnabledA: true, EnabledB: true}},
		{"not OK", fixtures.EvenkeelScript, "ORDER=B A\nA_OK=1\nB_OK=0\n", updater.BootState{Default: a, EnabledA: true}},
		{
			"strange values", fixtures.EvenkeelScript, "ORDER=b X A\nA_OK=1\nB_OK=yes\nevenkeel_trial=c\nevenkeel_tries=x\n",
			updater.BootState{Default: a, EnabledA: true},
		},
		{
			"a trial that the script would not start: not first", fixtures.EvenkeelScript,
			"ORDER=A B\nA_OK=1\nB_OK=1\nevenkeel_trial=b\nevenkeel_tries=2\n",
			updater.BootState{Default: a, EnabledA: true, EnabledB: true, Trial: updater.Trial{Slot: b}},
		},
		{
			"too high a count", fixtures.EvenkeelScript, "ORDER=B A\nA_OK=1\nB_OK=1\nevenkeel_trial=b\nevenkeel_tries=8\n",
			updater.BootState{Default: a, EnabledA: true, EnabledB: true, Trial: updater.Trial{Slot: b}},
		},
		{
			"load error", fixtures.EvenkeelScript, "ORDER=B A\nA_OK=1\nB_OK=1\nevenkeel_trial=b\nevenkeel_tries=0\nevenkeel_failed=b\n",
			updater.BootState{Default: a, EnabledA: true, EnabledB: true, Trial: updater.Trial{Slot: b, LoadError: true}},
		},
		{
			"RAUC: tried", fixtures.RAUCScript, "ORDER=B A\nA_OK=1\nB_OK=1\nB_TRY=1\nevenkeel_trial=b\nevenkeel_tries=1\n",
			updater.BootState{Default: a, EnabledA: true, EnabledB: true, Trial: updater.Trial{Slot: b}},
		},
		{
			"RAUC: not tried", fixtures.RAUCScript, "ORDER=B A\nA_OK=1\nB_OK=1\nB_TRY=0\nevenkeel_trial=b\nevenkeel_tries=1\n",
			updater.BootState{Default: a, EnabledA: true, EnabledB: true, Trial: updater.Trial{Slot: b, TriesLeft: 1}},
		},
	}
	for _, tt := range tests {
		rig := factory(t, tt.script)
		text := "# GRUB Environment Block\n" + tt.lines
		rig.Firmware.Files.Put(envPath, []byte(text+strings.Repeat("#", grubenv.Size-len(text))))
		if got, err := rig.State(); err != nil || got != tt.want {
			t.Errorf("%s: State is %+v, %v, want %+v", tt.name, got, err, tt.want)
		}
	}
}

func TestDamagedBlocks(t *testing.T) {
	good := factory(t, fixtures.EvenkeelScript).Firmware.Files.Get(envPath)
	for name, data := range map[string][]byte{
		"no file": nil, "empty file": {}, "zeros": make([]byte, grubenv.Size), "short": good[:100], "long": append(bytes.Clone(good), "more"...),
	} {
		rig := factory(t, fixtures.EvenkeelScript)
		rig.Firmware.Files.Put(envPath, data)
		if st, err := rig.State(); err != nil || st != (updater.BootState{}) {
			t.Errorf("%s: State is %+v, %v", name, st, err)
		}
		if err := rig.Disable(updater.B); err == nil || !strings.Contains(err.Error(), "confirm the running one first") &&
			!strings.Contains(err.Error(), "confirm the running slot") {
			t.Errorf("%s: Disable: %v", name, err)
		}
		if err := rig.Confirm(updater.A); err != nil {
			t.Errorf("%s: Confirm: %v", name, err)
		}
		if st, err := rig.State(); err != nil || st != (updater.BootState{Default: updater.A, EnabledA: true}) {
			t.Errorf("%s: State is %+v, %v", name, st, err)
		}
	}
}

// Without boot entries either, the boot partition is not mounted: nothing may be made there.
func TestMissingFilesAreAnError(t *testing.T) {
	for script, entryA := range map[fixtures.GRUBScript][]byte{
		fixtures.EvenkeelScript: nil,
		fixtures.RAUCScript:     entry(t, updater.A), // it has no boot entries of ours
	} {
		rig := factory(t, script)
		rig.Firmware.Files.Put(envPath, nil)
		rig.Firmware.Files.Put(entriesDir+"/a/boot.cfg", entryA)
		rig.Firmware.Files.Put(entriesDir+"/b/boot.cfg", nil)
		refusesWithoutBlock(t, rig)
	}
}

func refusesWithoutBlock(t *testing.T, rig *fixtures.GRUBRig) {
	t.Helper()
	_, err := rig.State()
	_, tryErr := rig.Try(updater.B, fixtures.BootSpecOf(updater.B), 1)
	for _, err := range []error{err, tryErr, rig.Disable(updater.B), rig.Confirm(updater.A)} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("error %v, want ErrNotExist", err)
		}
	}
	if rig.Firmware.Files.Get(envPath) != nil {
		t.Error("the block was made")
	}
}

func TestFailingMedium(t *testing.T) {
	verbs := map[string]func(*fixtures.GRUBRig) error{
		"Try": func(r *fixtures.GRUBRig) error {
			_, err := r.Try(updater.B, fixtures.BootSpecOf(updater.B), 1)
			return err
		},
		"Confirm": func(r *fixtures.GRUBRig) error { return r.Confirm(updater.B) },
		"Disable, again": func(r *fixtures.GRUBRig) error {
			r.Firmware.Files.Put(entriesDir+"/b/boot.cfg", entry(t, updater.B))
			return r.Disable(updater.B)
		},
	}
	for name, verb := range verbs {
		rig := factory(t, fixtures.EvenkeelScript)
		rig.Firmware.Files.ReadOnly = true
		if err := verb(rig); !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s on a read-only medium: %v", name, err)
		}
		rig = factory(t, fixtures.EvenkeelScript)
		rig.Firmware.Files.Stuck = true
		if err := verb(rig); err == nil || !strings.Contains(err.Error(), "reads back differently") {
			t.Errorf("%s on a medium that forgets: %v", name, err)
		}
	}
}

func TestTooFullABlock(t *testing.T) {
	rig := factory(t, fixtures.EvenkeelScript)
	text := "# GRUB Environment Block\nORDER=A\nA_OK=1\nforeign=" + strings.Repeat("x", 900) + "\n"
	rig.Firmware.Files.Put(envPath, []byte(text+strings.Repeat("#", grubenv.Size-len(text))))
	before := rig.Snapshot()
	if _, err := rig.Try(updater.B, fixtures.BootSpecOf(updater.B), 1); err == nil || !strings.Contains(err.Error(), "grub-editenv unset") {
		t.Errorf("error %v, want a hint to remove variables", err)
	}
	if rig.Firmware.Files.Get(envPath) == nil || !strings.Contains(before, text) || !strings.Contains(rig.Snapshot(), text) {
		t.Error("the block was changed")
	}
}

func TestTryRefusesTheDefault(t *testing.T) {
	rig := factory(t, fixtures.EvenkeelScript)
	if _, err := rig.Try(updater.A, fixtures.BootSpecOf(updater.A), 1); err == nil || !strings.Contains(err.Error(), "default slot") {
		t.Errorf("error %v", err)
	}
	if _, err := rig.Try("c", fixtures.BootSpecOf(updater.A), 1); err == nil {
		t.Error("slot c is accepted")
	}
}

// The boot entry is written while the slot cannot be chosen, and never otherwise.
func TestBootEntries(t *testing.T) {
	rig := factory(t, fixtures.EvenkeelScript)
	files, path := rig.Firmware.Files, entriesDir+"/b/boot.cfg"
	spec := fixtures.BootSpecOf(updater.B)
	try := func(spec release.BootSpec) error { _, err := rig.Try(updater.B, spec, 1); return err }

	files.Put(path, nil)
	if err := try(release.BootSpec{}); err == nil || !strings.Contains(err.Error(), "no boot spec is known") {
		t.Errorf("no entry and no spec: %v", err)
	}
	if err := rig.Confirm(updater.B); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Confirm of a slot without a boot entry: %v", err)
	}
	if err := try(spec); err != nil || !bytes.Equal(files.Get(path), entry(t, updater.B)) {
		t.Errorf("Try makes the entry: %v\n%s", err, files.Get(path))
	}
	if err := try(spec); err != nil {
		t.Errorf("Try again with the same entry: %v", err)
	}
	changed := spec
	changed.Cmdline += " quiet"
	if err := try(changed); err != nil || !bytes.Equal(files.Get(path), entry(t, updater.B)) {
		t.Errorf("Try keeps the entry of a slot that may be started: %v\n%s", err, files.Get(path))
	}
	if err := rig.Disable(updater.B); err != nil || !strings.HasPrefix(string(files.Get(path)), "set ek_use=no \n") {
		t.Errorf("Disable retires the entry: %v\n%s", err, files.Get(path))
	}
	if err := try(release.BootSpec{}); err != nil || !bytes.Equal(files.Get(path), entry(t, updater.B)) {
		t.Errorf("Try without a spec takes the entry that is there: %v\n%s", err, files.Get(path))
	}
	if err := errors.Join(rig.Disable(updater.B), try(changed)); err != nil || !strings.Contains(string(files.Get(path)), " 'quiet' ") {
		t.Errorf("Try after Disable writes the new entry: %v\n%s", err, files.Get(path))
	}
	files.Put(path, entry(t, updater.A))
	if err := rig.Confirm(updater.B); err == nil || !strings.Contains(err.Error(), "no boot entry of slot b") {
		t.Errorf("Confirm of a slot with the other one's entry: %v", err)
	}
}

// A slot that is being written is not started, even when the variables are lost meanwhile.
func TestDisabledSlotIsNotStartedFromDamagedVariables(t *testing.T) {
	rig := factory(t, fixtures.EvenkeelScript)
	if err := errors.Join(rig.Confirm(updater.B), rig.Disable(updater.A)); err != nil {
		t.Fatal(err)
	}
	rig.Damage()
	if s, ok := rig.PowerOn(); s != updater.B || !ok {
		t.Errorf("slot %q boots (%v), want b", s, ok)
	}
}

// A rollback to a slot whose entry is of a later agent, with another way to write it, or not what it was.
func TestTryOfAnEnabledSlot(t *testing.T) {
	b, spec := updater.B, fixtures.BootSpecOf(updater.B)
	later := bytes.Replace(entry(t, b), []byte("changes are lost."), []byte("changes are LOST."), 1)
	retired := bytes.Replace(later, []byte("yes"), []byte("no "), 1)
	for name, tt := range map[string]struct{ there, want []byte }{
		"of a later agent":          {later, later},
		"by an interrupted Disable": {retired, entry(t, b)},
		"damaged":                   {bytes.Replace(later, []byte("ro"), []byte("rw"), 1), entry(t, b)},
		"gone":                      {nil, entry(t, b)},
	} {
		rig := factory(t, fixtures.EvenkeelScript)
		if err := errors.Join(rig.Confirm(b), rig.Confirm(updater.A)); err != nil {
			t.Fatal(err)
		}
		path := entriesDir + "/b/boot.cfg"
		rig.Firmware.Files.Put(path, tt.there)
		if _, err := rig.Try(b, spec, 1); err != nil || !bytes.Equal(rig.Firmware.Files.Get(path), tt.want) {
			t.Errorf("%s: error %v, the entry is\n%s", name, err, rig.Firmware.Files.Get(path))
		}
		if s, ok := rig.PowerOn(); s != b || !ok {
			t.Errorf("%s: slot %q boots (%v), want b", name, s, ok)
		}
	}
}

// A slot that Disable does not get to disable keeps its boot entry.
func TestDisableThatCannotEndDoesNotBegin(t *testing.T) {
	rig := factory(t, fixtures.EvenkeelScript)
	if err := rig.Confirm(updater.B); err != nil {
		t.Fatal(err)
	}
	text := "# GRUB Environment Block\nORDER=B A\nA_OK=1\nB_OK=1\nforeign=" + strings.Repeat("x", 900) + "\n"
	for name, block := range map[string][]byte{
		"too full": []byte(text + strings.Repeat("#", grubenv.Size-len(text))), "damaged": make([]byte, grubenv.Size),
	} {
		rig.Firmware.Files.Put(envPath, block)
		before := rig.Snapshot()
		if err := rig.Disable(updater.A); err == nil || rig.Snapshot() != before {
			t.Errorf("%s: error %v, and the files are\n%s", name, err, rig.Snapshot())
		}
	}
}

func TestLoadErrors(t *testing.T) {
	rig := factory(t, fixtures.EvenkeelScript)
	if _, err := rig.Try(updater.B, fixtures.BootSpecOf(updater.B), 3); err != nil {
		t.Fatal(err)
	}
	rig.Firmware.Missing = map[updater.Slot]bool{updater.B: true}
	if s, ok := rig.PowerOn(); s != updater.A || !ok {
		t.Errorf("slot %q boots (%v), want a", s, ok)
	}
	want := updater.Trial{Slot: updater.B, LoadError: true}
	if st, err := rig.State(); err != nil || st.Trial != want {
		t.Errorf("State is %+v, %v, want %+v", st, err, want)
	}
	if _, err := rig.Try(updater.B, fixtures.BootSpecOf(updater.B), 3); err != nil {
		t.Fatal(err)
	}
	if st, _ := rig.State(); st.Trial.LoadError {
		t.Error("Try keeps the load error of the trial before")
	}
	rig.Firmware.Missing = map[updater.Slot]bool{updater.A: true}
	if err := rig.Confirm(updater.A); err != nil {
		t.Fatal(err)
	}
	if s, ok := rig.PowerOn(); s != updater.B || !ok {
		t.Errorf("slot %q boots (%v), want b in place of a default that cannot be loaded", s, ok)
	}
	rig.Firmware.Missing[updater.B] = true
	if b := rig.Firmware.Boot(); !b.Reset {
		t.Errorf("it does %+v, want a reset", b)
	}
}

func TestSnippetIsWhole(t *testing.T) {
	text := string(bootloader.Snippet())
	for _, want := range []string{"load_env --skip-sig", "evenkeel_failed", "reboot\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("it has no %q", want)
		}
	}
	bootloader.Snippet()[0] = 'X'
	if bootloader.Snippet()[0] == 'X' {
		t.Error("a caller can change it")
	}
}

// Every change of the variables is one sector, the first: that is what makes a verb atomic.
func TestOneSectorForEachVerb(t *testing.T) {
	rig := factory(t, fixtures.RAUCScript) // writes no boot entries
	for name, verb := range map[string]func() error{
		"Try":     func() error { _, err := rig.Try(updater.B, release.BootSpec{}, 1); return err },
		"Confirm": func() error { return rig.Confirm(updater.A) },
		"Settle":  func() error { rig.Firmware.Boot(); return rig.Settle() },
		"Disable": func() error { return rig.Disable(updater.B) },
	} {
		before, rest := rig.Writes(), rig.Firmware.Files.Get(envPath)[grubenv.Sector:]
		if err := verb(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if n := rig.Writes() - before; n > 1 {
			t.Errorf("%s wrote %d sectors", name, n)
		}
		if !bytes.Equal(rest, rig.Firmware.Files.Get(envPath)[grubenv.Sector:]) {
			t.Errorf("%s changed the second sector", name)
		}
	}
}
