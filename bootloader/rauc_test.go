package bootloader_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evenkeel-os/evenkeel/bootloader"
	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/updater"
)

// raucScript starts RAUC's service on a message bus of its own and runs the commands that follow it.
const raucScript = `
export DBUS_STARTER_BUS_TYPE=session
rauc --conf="$1/system.conf" --override-boot-slot=A service >"$1/log" 2>&1 &
service=$!
trap 'kill $service' EXIT
gdbus wait --session --timeout 20 de.pengutronix.rauc || exit 1
shift
"$@"
`

const raucConf = `[system]
compatible=test
bootloader=grub
grubenv=%/grubenv
[slot.rootfs.0]
device=%/a
bootname=A
[slot.rootfs.1]
device=%/b
bootname=B
`

// TestRAUCReadsTheSame asks the real RAUC what our variables mean, and reads what it writes.
func TestRAUCReadsTheSame(t *testing.T) {
	for _, tool := range []string{"rauc", "grub-editenv", "dbus-run-session", "gdbus"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%v: apt-get install rauc rauc-service grub-common dbus libglib2.0-bin", err)
		}
	}
	dir := t.TempDir()
	env := filepath.Join(dir, "grubenv")
	block, err := bootloader.InitialEnv(updater.A)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{"system.conf": strings.ReplaceAll(raucConf, "%", dir), "a": "", "b": "", "grubenv": string(block)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g, err := bootloader.NewGRUB(bootloader.Options{Grubenv: env, Script: bootloader.ScriptRAUC})
	if err != nil {
		t.Fatal(err)
	}
	rauc := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("dbus-run-session", append([]string{"--", "sh", "-c", raucScript, "sh", dir, "rauc", "status"}, args...)...).CombinedOutput()
		if err != nil {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Fatalf("rauc status %q: %v\n%s\n%s", args, err, out, log)
		}
		return string(out)
	}
	shows := func(when, primary, a, b string) {
		t.Helper()
		out := rauc("--output-format=json")
		for _, want := range []string{
			`"boot_primary":"` + primary + `"`, `"bootname":"A","state":"booted","parent":null,"mountpoint":null,"boot_status":"` + a + `"`,
			`"bootname":"B","state":"inactive","parent":null,"mountpoint":null,"boot_status":"` + b + `"`,
		} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: RAUC does not say %s:\n%s", when, want, out)
			}
		}
	}
	state := func(when string, want updater.BootState) {
		t.Helper()
		if st, err := g.State(); err != nil || st != want {
			t.Errorf("%s: State is %+v, %v, want %+v", when, st, err, want)
		}
	}
	shows("factory", "rootfs.0", "good", "bad")
	if _, err := g.Try(updater.B, release.BootSpec{}, 1); err != nil {
		t.Fatal(err)
	}
	shows("Try", "rootfs.1", "good", "good")
	if err := g.Confirm(updater.A); err != nil {
		t.Fatal(err)
	}
	shows("Confirm", "rootfs.0", "good", "good")
	if err := g.Disable(updater.B); err != nil {
		t.Fatal(err)
	}
	shows("Disable", "rootfs.0", "good", "bad")

	rauc("mark-active", "other")
	state("mark-active", updater.BootState{Default: updater.B, EnabledA: true, EnabledB: true})
	rauc("mark-bad", "other")
	state("mark-bad", updater.BootState{Default: updater.A, EnabledA: true})
	if err := g.Confirm(updater.A); err != nil {
		t.Errorf("Confirm after RAUC wrote: %v", err)
	}
}
