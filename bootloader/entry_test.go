package bootloader_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/evenkeel-os/evenkeel/bootloader"
	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/updater"
)

// TestEntryGolden pins the boot entries that TestRealGRUB boots.
func TestEntryGolden(t *testing.T) {
	for name, spec := range map[string]release.BootSpec{
		"files":  specOf(updater.B),
		"inside": {Kernel: "root:/boot/vmlinuz", Initrd: "root:/boot/initrd.img", Cmdline: "root={root} ro usr={usr}"},
		"bare":   {Kernel: "uki:linux.efi"},
	} {
		got, err := bootloader.Entry(updater.B, spec, partUUID)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != bootloader.EntrySize {
			t.Errorf("%s: %d bytes, want %d", name, len(got), bootloader.EntrySize)
		}
		text := strings.TrimRight(string(got), "\n") + "\n"
		want, err := os.ReadFile("testdata/" + name + ".cfg")
		if err != nil || text != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s\n%v", name, text, want, err)
		}
	}
}

func TestEntryRefuses(t *testing.T) {
	ok := release.BootSpec{Kernel: "kernel:vmlinuz", Initrd: "initrd:initrd.img", Cmdline: "root={root}"}
	tests := []struct {
		name string
		edit func(*release.BootSpec)
		want string
	}{
		{"no kernel", func(s *release.BootSpec) { s.Kernel = "" }, "names no kernel"},
		{"role alone", func(s *release.BootSpec) { s.Kernel = "kernel" }, "does not say which file"},
		{"no name", func(s *release.BootSpec) { s.Initrd = "initrd:" }, "does not say which file"},
		{"another directory", func(s *release.BootSpec) { s.Kernel = "kernel:../a/vmlinuz" }, `".."`},
		{"a directory", func(s *release.BootSpec) { s.Kernel = "kernel:x/vmlinuz" }, "slash"},
		{"out of the partition", func(s *release.BootSpec) { s.Kernel = "root:/boot/../../x" }, `".."`},
		{"single quote in a path", func(s *release.BootSpec) { s.Kernel = "root:/boot/'; reboot; '" }, "cannot pass on"},
		{"single quote", func(s *release.BootSpec) { s.Cmdline = "x='; reboot #" }, "cannot pass on"},
		{"backslash", func(s *release.BootSpec) { s.Cmdline = `x=\` }, "cannot pass on"},
		{"line feed", func(s *release.BootSpec) { s.Cmdline = "x\nreboot" }, "cannot pass on"},
		{"NUL", func(s *release.BootSpec) { s.Cmdline = "x\x00" }, "cannot pass on"},
		{"not ASCII", func(s *release.BootSpec) { s.Cmdline = "x=ü" }, "cannot pass on"},
		{"open quote", func(s *release.BootSpec) { s.Cmdline = `x="a b` }, "never closed"},
		{"slot said", func(s *release.BootSpec) { s.Cmdline = "evenkeel.slot=a" }, "by itself"},
		{"UUID", func(s *release.BootSpec) { s.Cmdline = "root=UUID=1" }, "both slots"},
		{"LABEL", func(s *release.BootSpec) { s.Cmdline = "root=LABEL=root" }, "both slots"},
		{"unknown role", func(s *release.BootSpec) { s.Cmdline = "root={nothing}" }, "no such role"},
		{"role with a bad GUID", func(s *release.BootSpec) { s.Kernel = "evil:/vmlinuz" }, "lower-case GUID"},
		{"braces", func(s *release.BootSpec) { s.Cmdline = "x={" }, "braces"},
		{"too long", func(s *release.BootSpec) { s.Cmdline = strings.Repeat("x", 1800) }, "at most"},
		{"too many words", func(s *release.BootSpec) { s.Cmdline = strings.Repeat("x ", 600) }, "at most"},
	}
	find := func(s updater.Slot, r release.Role) (string, error) {
		switch r {
		case "nothing":
			return "", errors.New("no such role")
		case "evil":
			return "1; reboot", nil
		}
		return partUUID(s, r)
	}
	if _, err := bootloader.Entry(updater.A, ok, find); err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		spec := ok
		tt.edit(&spec)
		if _, err := bootloader.Entry(updater.A, spec, find); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one with %q", tt.name, err, tt.want)
		}
	}
	if _, err := bootloader.Entry(updater.A, ok, nil); err == nil {
		t.Error("{root} is accepted where no role has a partition")
	}
}

// TestEntryTakesWhatReleasesMaySay: the longest boot specs that a publisher gets past Release.Check fit, in words long and short.
func TestEntryTakesWhatReleasesMaySay(t *testing.T) {
	path := "root:/" + strings.Repeat("p", 199)
	for _, word := range []string{"x", "ab=cd", `y="a b"`, "z={root}", strings.Repeat("w", 200), `""`} {
		r := checkable(release.BootSpec{Kernel: path, Initrd: path, Cmdline: "root={root}"})
		for r.Check() == nil {
			if _, err := bootloader.Entry(updater.B, r.Entry(), partUUID); err != nil {
				t.Fatalf("after %q was added up to %d bytes: %v", word, len(r.Boot.Cmdline), err)
			}
			r.Boot.Cmdline += " " + word
		}
		if err := r.Check(); !strings.Contains(err.Error(), "at most 1800 fit") {
			t.Errorf("%q: Check = %v", word, err)
		}
		if _, err := bootloader.Entry(updater.B, r.Entry(), partUUID); err == nil {
			t.Errorf("%q: a release that is refused for its length is not, here", word)
		}
	}
}

func checkable(spec release.BootSpec) release.Release {
	sum := release.Digest{1}
	return release.Release{
		Product: "p", Compatible: []string{"m"}, Architecture: "amd64", Layout: 1, Version: "1", Serial: 1, Boot: spec,
		Images: []release.Image{{
			Role: "root", Kind: release.KindPartition, Size: 1, SHA256: sum, Index: release.IndexName(sum), Pack: release.PackName(sum),
		}},
	}
}

// FuzzEntry: whatever a boot spec says, an entry consists of known lines, and of words within single quotes.
func FuzzEntry(f *testing.F) {
	f.Add("kernel:vmlinuz", "root:/initrd", `root={root} x="a b" {slot}`)
	f.Add("k:'", "", "'\n")
	f.Add("k:v", "i:i", `"" "a"b "{root} x"`)
	f.Fuzz(func(t *testing.T, kernel, initrd, cmdline string) {
		spec := release.BootSpec{Kernel: kernel, Initrd: initrd, Cmdline: cmdline}
		data, err := bootloader.Entry(updater.B, spec, partUUID)
		if err != nil {
			return
		}
		for line := range strings.Lines(string(data)) {
			if bad := judgeLine(strings.TrimSuffix(line, "\n")); bad != "" {
				t.Errorf("%q: %s", line, bad)
			}
		}
	})
}

// judgeLine says what is wrong with a line of a boot entry.
func judgeLine(line string) string {
	for _, command := range []string{"if linux ", "if initrd "} {
		rest, ok := strings.CutPrefix(line, command)
		if !ok {
			continue
		}
		rest, ok = strings.CutSuffix(rest, "; then")
		if !ok {
			return "it does not end in then"
		}
		rest = strings.TrimPrefix(strings.TrimPrefix(rest, `"$ek_dir"/b/`), `"$ek_part"`)
		for i, part := range strings.Split(rest, "'") {
			if i%2 == 0 && strings.Trim(part, " ") != "" {
				return "something is outside of quotes: " + part
			}
		}
		if strings.Count(rest, "'")%2 != 0 {
			return "a quote is open"
		}
		return ""
	}
	for _, known := range []string{"", "set ek_", `if [ "$ek_use" = yes ]; then`, "if ek_find 11111111-", "fi", "# Boot entry, "} {
		if line == known || known != "" && strings.HasPrefix(line, known) && !strings.ContainsAny(line, "'&|") {
			return ""
		}
	}
	return "an unknown line"
}
