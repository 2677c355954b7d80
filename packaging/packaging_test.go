// Package packaging_test checks what an appliance installs: that systemd takes the units, that evenkeel knows what they call,
// and that only a slot on trial reboots by itself.
package packaging_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/evenkeel-os/evenkeel/bootloader"
	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/updater"
)

// entry is one assignment of a unit file.
type entry struct{ section, key, value string }

// read parses a unit file as far as ours go: no continued lines.
func read(t *testing.T, path string) (entries []entry) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	section := ""
	for s := bufio.NewScanner(f); s.Scan(); {
		line := strings.TrimSpace(s.Text())
		switch key, value, ok := strings.Cut(line, "="); {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			section = strings.Trim(line, "[]")
		case !ok || section == "":
			t.Fatalf("%s: no assignment: %q", path, line)
		default:
			entries = append(entries, entry{section, key, value})
		}
	}
	return entries
}

// units returns all unit files by name.
func units(t *testing.T) map[string][]entry {
	t.Helper()
	paths, err := filepath.Glob("systemd/*.service")
	if err != nil || len(paths) != 4 {
		t.Fatalf("units: %q, %v", paths, err)
	}
	all := map[string][]entry{}
	for _, p := range paths {
		all[filepath.Base(p)] = read(t, p)
	}
	return all
}

func values(entries []entry, key string) (vs []string) {
	for _, e := range entries {
		if e.key == key {
			vs = append(vs, e.value)
		}
	}
	return vs
}

func copyFile(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o755)
	}
	if err == nil {
		err = os.WriteFile(to, b, mode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// image is a root directory with our units, systemd's targets, and something in the place of each program.
func image(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	targets, _ := filepath.Glob("/lib/systemd/system/*.target")
	if len(targets) == 0 {
		t.Fatal("systemd-analyze is there, and systemd's own units are not in /lib/systemd/system")
	}
	for _, p := range targets {
		copyFile(t, p, filepath.Join(root, "lib/systemd/system", filepath.Base(p)), 0o644)
	}
	for name, u := range units(t) {
		copyFile(t, "systemd/"+name, filepath.Join(root, "etc/systemd/system", name), 0o644)
		for _, e := range u {
			if strings.HasPrefix(e.key, "Exec") {
				copyFile(t, "/dev/null", filepath.Join(root, strings.Fields(e.value)[0]), 0o755)
			}
		}
	}
	return root
}

// verify returns what systemd says of our units below root.
func verify(t *testing.T, root string) string {
	t.Helper()
	args := []string{"verify", "--root=" + root, "--man=no"}
	for name := range units(t) {
		args = append(args, name)
	}
	out, err := exec.Command("systemd-analyze", args...).CombinedOutput()
	if err != nil && len(out) == 0 {
		t.Fatal(err)
	}
	return string(out)
}

func needSystemdAnalyze(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is missing: apt-get install systemd")
	}
}

func TestSystemdTakesTheUnits(t *testing.T) {
	needSystemdAnalyze(t)
	if out := verify(t, image(t)); out != "" {
		t.Errorf("systemd-analyze verify:\n%s", out)
	}
}

// TestSystemdWouldComplain, so that its silence above means something.
func TestSystemdWouldComplain(t *testing.T) {
	needSystemdAnalyze(t)
	for _, add := range []string{"[Service]\nRestartSecs=1\n", "[Service]\nExecStop=/no/such/program\n", "[Unit]\nOnFailure=not a unit\n"} {
		root := image(t)
		path := filepath.Join(root, "etc/systemd/system/evenkeel.service")
		b, _ := os.ReadFile(path)
		if err := os.WriteFile(path, append(b, add...), 0o644); err != nil {
			t.Fatal(err)
		}
		if out := verify(t, root); !strings.Contains(out, "evenkeel.service") {
			t.Errorf("%q: systemd-analyze verify says %q", add, out)
		}
	}
}

// TestTheManagerTakesTheWatchdog: systemd has no command that verifies system.conf, so this is the spelling by the manual.
func TestTheManagerTakesTheWatchdog(t *testing.T) {
	want := []entry{{"Manager", "RuntimeWatchdogSec", "1min"}, {"Manager", "RebootWatchdogSec", "5min"}}
	if got := read(t, "systemd/system.conf.d/10-evenkeel-watchdog.conf"); !slices.Equal(got, want) {
		t.Errorf("watchdog: %+v", got)
	}
}

// TestEvenkeelKnowsItsCommandLines: every line that a unit calls is a command, not an argument that is complained about.
func TestEvenkeelKnowsItsCommandLines(t *testing.T) {
	program := filepath.Join(t.TempDir(), "evenkeel")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/evenkeel-os/evenkeel/cmd/evenkeel").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var lines []string
	for _, u := range units(t) {
		for _, e := range u {
			if args, ok := strings.CutPrefix(e.value, "/usr/bin/evenkeel "); ok {
				lines = append(lines, args)
			}
		}
	}
	slices.Sort(lines)
	if want := []string{"agent", "boot deadline", "boot end", "boot settle"}; !slices.Equal(lines, want) {
		t.Errorf("the units call %q, want %q", lines, want)
	}
	for _, line := range lines {
		out, err := exec.Command(program, append(strings.Fields(line), "--help")...).CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("Usage:\n  evenkeel "+line+" ")) {
			t.Errorf("evenkeel %s --help: %v: %s", line, err, out)
		}
	}
}

// TestOnlyOneUnitReboots: what makes systemd reboot is in the unit that looks whether the slot is on trial, which nothing but
// the failed deadline unit starts.
func TestOnlyOneUnitReboots(t *testing.T) {
	for name, u := range units(t) {
		for _, e := range u {
			reboots := strings.HasSuffix(e.key, "Action") || strings.HasPrefix(e.key, "Exec") && strings.Contains(e.value, "reboot")
			if reboots && (name != "evenkeel-stranded.service" || e != entry{"Unit", "SuccessAction", "reboot"}) {
				t.Errorf("%s: %s=%s", name, e.key, e.value)
			}
			stranded := strings.Contains(e.value, "evenkeel-stranded")
			if stranded && (name != "evenkeel-deadline.service" || e.key != "OnFailure") || name == "evenkeel-stranded.service" && e.section == "Install" {
				t.Errorf("%s: %s=%s starts the unit that reboots", name, e.key, e.value)
			}
		}
	}
}

// TestTheDeadlineNeedsNothing: what it waits for could be what a trial is stuck in.
func TestTheDeadlineNeedsNothing(t *testing.T) {
	for _, name := range []string{"evenkeel-deadline.service", "evenkeel-stranded.service"} {
		u := units(t)[name]
		for _, key := range []string{"After", "Requires", "Requisite", "BindsTo", "PartOf", "RequiresMountsFor", "BusName"} {
			if v := values(u, key); v != nil {
				t.Errorf("%s: %s=%q", name, key, v)
			}
		}
		for _, e := range u {
			if strings.HasPrefix(e.key, "Condition") || strings.HasPrefix(e.key, "Assert") {
				t.Errorf("%s: %s=%s", name, e.key, e.value)
			}
		}
		if !slices.Equal(values(u, "DefaultDependencies"), []string{"no"}) {
			t.Errorf("%s has the default dependencies", name)
		}
	}
	if v := values(units(t)["evenkeel-deadline.service"], "Conflicts"); v != nil {
		t.Errorf("the deadline unit is stopped by %q: a shutdown that hangs in a trial would hang for ever", v)
	}
}

// TestTheHostsOwnMounts: the agent decides by the mount table what it may write, so it must see the host's. These settings give
// a unit a table of its own (systemd.exec(5)), or keep it from block devices.
func TestTheHostsOwnMounts(t *testing.T) {
	own := []string{
		"RootDirectory", "RootImage", "ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateMounts", "PrivateUsers",
		"ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ProtectProc", "ProtectHostname",
		"ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "ExecPaths", "NoExecPaths", "TemporaryFileSystem", "BindPaths",
		"BindReadOnlyPaths", "MountFlags", "DynamicUser", "DevicePolicy", "DeviceAllow", "ProtectClock",
	}
	for name, u := range units(t) {
		for _, e := range u {
			if slices.Contains(own, e.key) {
				t.Errorf("%s: %s=%s", name, e.key, e.value)
			}
		}
	}
}

// onTrial runs the script that the last resort asks.
func onTrial(t *testing.T, root, grubenv string) (bool, string) {
	t.Helper()
	c := exec.Command("/bin/sh", "systemd/on-trial")
	c.Env = []string{"EVENKEEL_ROOT=" + root, "PATH=/nowhere"} // nothing but the shell
	if grubenv != "" {
		c.Env = append(c.Env, "EVENKEEL_GRUBENV="+grubenv)
	}
	out, err := c.CombinedOutput()
	return err == nil, string(out)
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestOnTrial(t *testing.T) {
	const head = "# GRUB Environment Block\n"
	tests := []struct {
		name, cmdline, env string
		want               bool
	}{
		{"on trial", "root=PARTUUID=1 evenkeel.slot=b panic=10\n", head + "ORDER=B A\nevenkeel_trial=b\n####", true},
		{"on trial in a", "evenkeel.slot=a\n", head + "evenkeel_trial=a\n####", true},
		{"no end of line", "evenkeel.slot=b", head + "evenkeel_trial=b\n####", true},
		{"said twice", "evenkeel.slot=b evenkeel.slot=b\n", head + "evenkeel_trial=b\n####", true},
		{"default slot during a trial", "evenkeel.slot=a\n", head + "evenkeel_trial=b\n####", false},
		{"no trial", "evenkeel.slot=b\n", head + "ORDER=B A\n####", false},
		{"empty marker", "evenkeel.slot=b\n", head + "evenkeel_trial=\n####", false},
		{"the last of two", "evenkeel.slot=b\n", head + "evenkeel_trial=b\nevenkeel_trial=a\n####", false},
		{"in a comment", "evenkeel.slot=b\n", head + "#evenkeel_trial=b\n####", false},
		{"another variable", "evenkeel.slot=b\n", head + "xevenkeel_trial=b\n####", false},
		{"no slot", "quiet\n", head + "evenkeel_trial=b\n####", false},
		{"no slot, empty marker", "quiet\n", head + "evenkeel_trial=\n####", false},
		{"both slots", "evenkeel.slot=a evenkeel.slot=b\n", head + "evenkeel_trial=b\n####", false},
		{"another slot", "evenkeel.slot=c\n", head + "evenkeel_trial=c\n####", false},
		{"a pattern", "evenkeel.slot=? * evenkeel.slot=b\n", head + "evenkeel_trial=b\n####", true},
		{"empty command line", "", head + "evenkeel_trial=b\n####", false},
		{"zeros", "evenkeel.slot=b\n", strings.Repeat("\x00", 1024), false},
		{"no variables", "evenkeel.slot=b\n", "", false},
	}
	for _, tt := range tests {
		root := t.TempDir()
		put(t, filepath.Join(root, "proc/cmdline"), tt.cmdline)
		put(t, filepath.Join(root, "efi/evenkeel/grubenv"), tt.env)
		if got, out := onTrial(t, root, ""); got != tt.want || out == "" && tt.cmdline != "" {
			t.Errorf("%s: on trial %v, want %v: %s", tt.name, got, tt.want, out)
		}
	}
	if got, out := onTrial(t, t.TempDir(), ""); got {
		t.Errorf("without any files it is on trial: %s", out)
	}
	root := t.TempDir()
	put(t, filepath.Join(root, "proc/cmdline"), "evenkeel.slot=b\n")
	if got, out := onTrial(t, root, ""); got {
		t.Errorf("without GRUB's variables it is on trial: %s", out)
	}
}

// TestOnTrialAgreesWithTheBootLoader: the marker is where the script looks, from Try to Confirm and to Disable, with our script
// and with RAUC's.
func TestOnTrialAgreesWithTheBootLoader(t *testing.T) {
	for _, script := range []bootloader.Script{bootloader.ScriptEvenkeel, bootloader.ScriptRAUC} {
		dir := t.TempDir()
		env, err := bootloader.InitialEnv(updater.A)
		if err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, "grubenv"), string(env))
		o := bootloader.Options{Grubenv: filepath.Join(dir, "grubenv"), Script: script}
		o.PartUUID = func(s updater.Slot, _ release.Role) (string, error) {
			return "8484680c-9521-48c6-9c11-b0720656f69" + string(s), nil
		}
		if script == bootloader.ScriptEvenkeel {
			o.Entries = dir
		}
		g, err := bootloader.NewGRUB(o)
		if err != nil {
			t.Fatal(err)
		}
		steps := []struct {
			name string
			do   func() error
			b    bool // on trial in b; a never is
		}{
			{"factory", func() error { return nil }, false},
			{"try", func() error { _, err := g.Try(updater.B, fixtures.BootSpecOf(updater.B), 1); return err }, true},
			{"disable", func() error { return g.Disable(updater.B) }, false},
			{"try again", func() error { _, err := g.Try(updater.B, fixtures.BootSpecOf(updater.B), 1); return err }, true},
			{"confirm", func() error { return g.Confirm(updater.B) }, false},
		}
		for _, st := range steps {
			if err := st.do(); err != nil {
				t.Fatalf("%s, %s: %v", script, st.name, err)
			}
			for slot, want := range map[string]bool{"a": false, "b": st.b} {
				root := t.TempDir()
				put(t, filepath.Join(root, "proc/cmdline"), fmt.Sprintf("ro evenkeel.slot=%s\n", slot))
				copyFile(t, o.Grubenv, filepath.Join(root, "vars"), 0o644)
				if got, out := onTrial(t, root, "/vars"); got != want {
					t.Errorf("%s, after %s, in slot %s: on trial %v, want %v: %s", script, st.name, slot, got, want, out)
				}
			}
		}
	}
}
