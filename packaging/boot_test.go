package packaging_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// These tests boot a real systemd in a container: this system's /usr, read-only, with an /etc of its own, our units, and a
// shell script in the place of evenkeel. They need root, systemd and systemd-nspawn (Debian: systemd-container).

// What systemd-nspawn exits with.
const (
	poweredOff = 0
	rebooted   = 133
)

// container is a root directory for one boot.
type container struct {
	t          *testing.T
	root, name string
}

func newContainer(t *testing.T) *container {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := exec.LookPath("systemd-nspawn"); err != nil {
		t.Skip("systemd-nspawn is missing: apt-get install systemd-container")
	}
	c := &container{t: t, root: t.TempDir(), name: fmt.Sprintf("evenkeel-%x", rand.Uint64())}
	t.Cleanup(func() {
		for _, dir := range []string{"propagate", "unix-export"} {
			_ = os.RemoveAll(filepath.Join("/run/systemd/nspawn", dir, c.name))
		}
	})
	for _, dir := range []string{"usr", "proc", "sys", "dev", "run", "tmp", "root", "etc", "var/log", "var/lib/evenkeel", "srv", "opt"} {
		if err := os.MkdirAll(filepath.Join(c.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"bin", "sbin", "lib", "lib64"} {
		if to, err := os.Readlink("/" + name); err == nil {
			if err := os.Symlink(to, filepath.Join(c.root, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range []string{"passwd", "group", "os-release"} {
		copyFile(t, "/etc/"+name, filepath.Join(c.root, "etc", name), 0o644)
	}
	if out, err := c.nspawn("true").CombinedOutput(); err != nil {
		t.Skipf("this system cannot run containers: %v: %s", err, out)
	}
	c.install()
	return c
}

// install puts our units into place. What they call lies in /opt, for /usr is this system's.
func (c *container) install() {
	copyFile(c.t, "systemd/on-trial", filepath.Join(c.root, "opt/on-trial"), 0o644)
	for name := range units(c.t) {
		b, err := os.ReadFile("systemd/" + name)
		if err != nil {
			c.t.Fatal(err)
		}
		text := strings.NewReplacer("/usr/bin/evenkeel", "/opt/evenkeel", "/usr/lib/evenkeel/", "/opt/").Replace(string(b))
		c.put("etc/systemd/system/"+name, text)
		if out, err := exec.Command("systemctl", "--root="+c.root, "enable", name).CombinedOutput(); err != nil {
			c.t.Fatalf("%v: %s", err, out)
		}
	}
	// A proc/cmdline cannot be made up; the script is told where another is.
	c.dropIn("evenkeel-stranded.service", "[Service]\nEnvironment=EVENKEEL_ROOT=/opt\n")
	c.put("opt/proc/cmdline", "quiet evenkeel.slot=b\n")
	c.put("etc/machine-id", "")
	c.dropIn("console-getty.service", "[Unit]\nConditionPathExists=/nowhere\n")
}

func (c *container) put(path, content string) {
	c.t.Helper()
	put(c.t, filepath.Join(c.root, path), content)
}

func (c *container) dropIn(unit, content string) {
	c.t.Helper()
	c.put("etc/systemd/system/"+unit+".d/test.conf", content)
}

// evenkeel is what runs in its place: a shell script that gets the command line.
func (c *container) evenkeel(script string) {
	c.t.Helper()
	c.put("opt/evenkeel", "#!/bin/sh\nsay() { echo \"$*: $(systemctl is-system-running)\" >>/var/log/said; }\n"+script)
	if err := os.Chmod(filepath.Join(c.root, "opt/evenkeel"), 0o755); err != nil {
		c.t.Fatal(err)
	}
}

func (c *container) nspawn(args ...string) *exec.Cmd {
	args = append([]string{"--quiet", "--directory=" + c.root, "--machine=" + c.name, "--bind-ro=/usr", "--console=pipe", "--register=no", "--keep-unit"}, args...)
	return exec.Command("systemd-nspawn", args...)
}

// boot boots, waits for the end, and returns how it ended and what was said.
func (c *container) boot() (int, string) {
	c.t.Helper()
	// Nothing waits for this time: it ends a test that would hang.
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := c.nspawn("--boot")
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.t.Fatal(err)
	}
	if ctx.Err() != nil {
		c.t.Fatalf("it did not end: %s", out)
	}
	said, _ := os.ReadFile(filepath.Join(c.root, "var/log/said"))
	c.t.Logf("exit %d; said:\n%s%s", cmd.ProcessState.ExitCode(), said, out)
	return cmd.ProcessState.ExitCode(), string(said)
}

// quick makes the deadline unit give up within seconds instead of ten minutes.
func (c *container) quick() {
	c.dropIn("evenkeel-deadline.service", "[Unit]\nStartLimitBurst=4\n[Service]\nRestartSec=100ms\n")
	// Where it does not reboot, the test ends too.
	c.dropIn("evenkeel-stranded.service", "[Unit]\nFailureAction=poweroff\n[Service]\nEnvironment=EVENKEEL_ROOT=/opt\n")
}

func TestATrialWithoutEvenkeelReboots(t *testing.T) {
	for name, script := range map[string]string{"missing": "", "crashing": "kill -SEGV $$", "failing": "exit 1"} {
		t.Run(name, func(t *testing.T) {
			c := newContainer(t)
			if script != "" {
				c.evenkeel(script)
			}
			c.quick()
			c.put("opt/efi/evenkeel/grubenv", "# GRUB Environment Block\nORDER=B A\nevenkeel_trial=b\n")
			if exit, _ := c.boot(); exit != rebooted {
				t.Errorf("exit %d, want a reboot", exit)
			}
		})
	}
}

func TestADefaultSlotWithoutEvenkeelStaysUp(t *testing.T) {
	c := newContainer(t)
	c.quick()
	c.put("opt/efi/evenkeel/grubenv", "# GRUB Environment Block\nORDER=B A\nevenkeel_trial=a\n")
	if exit, _ := c.boot(); exit != poweredOff {
		t.Errorf("exit %d, want that it stays up until the test ends it", exit)
	}
}

// TestOrderOfABoot: settle before the agent and before everybody else's services, its end after the agent and while the system is
// stopping; the deadline unit is there to the last.
func TestOrderOfABoot(t *testing.T) {
	c := newContainer(t)
	c.put("etc/systemd/system/app.service", "[Service]\nType=oneshot\nExecStart=/opt/evenkeel app\n")
	c.dropIn("evenkeel.service", "[Unit]\nWants=app.service\nAfter=app.service\n")
	c.evenkeel(`[ "$*" != "boot settle" ] || sleep 0.5
say "$*"
case $* in
agent)
	trap 'say agent ends; exit 0' TERM
	systemd-notify --ready
	systemctl --no-block reboot
	while :; do sleep 0.1; done ;;
"boot deadline")
	trap '' TERM
	while [ ! -e /var/log/ended ]; do sleep 0.1; done
	say deadline lives
	touch /var/log/seen
	exit 0 ;;
"boot end")
	touch /var/log/ended
	while [ ! -e /var/log/seen ]; do sleep 0.1; done ;;
esac
`)
	exit, said := c.boot()
	var lines []string
	for line := range strings.Lines(said) {
		if !strings.HasPrefix(line, "boot deadline: ") { // it starts when it likes
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	want := "boot settle: initializing, app: starting, agent: starting, agent ends: stopping, boot end: stopping, deadline lives: stopping"
	if got := strings.Join(lines, ", "); exit != rebooted || got != want {
		t.Errorf("exit %d: %s, want %d: %s", exit, got, rebooted, want)
	}
	if !strings.Contains(said, "boot deadline: initializing") {
		t.Error("the deadline unit did not start early")
	}
}

// TestEmergencyMode is where a trial ends that cannot mount its file systems: the agent never starts, and the deadline unit acts.
func TestEmergencyMode(t *testing.T) {
	c := newContainer(t)
	c.put("etc/fstab", "tmpfs /srv tmpfs size=nonsense 0 0\n")
	c.dropIn("emergency.service", "[Service]\nExecStartPre=\nExecStart=\nExecStart=/bin/sleep infinity\nStandardInput=null\nStandardOutput=journal\n")
	c.evenkeel(`case $* in
"boot deadline")
	until [ "$(systemctl is-active emergency.service)" = active ]; do sleep 0.1; done
	until [ -z "$(systemctl list-jobs --no-legend)" ]; do sleep 0.1; done
	say deadline
	systemctl --no-block reboot
	exit 1 ;;
*)
	say "$*" ;;
esac
`)
	exit, said := c.boot()
	if exit != rebooted || !strings.Contains(said, "deadline: maintenance") || strings.Contains(said, "agent") {
		t.Errorf("exit %d, said %q", exit, said)
	}
}

// TestTheDeadlineUnitIsStartedUntilItSucceeds: success means that there is nothing to do in this boot. It is killed, and it fails,
// and is started again.
func TestTheDeadlineUnitIsStartedUntilItSucceeds(t *testing.T) {
	for script, want := range map[string]int{"true": 1, "[ $n != 2 ] || kill $$; [ $n = 3 ]": 3} {
		t.Run(script, func(t *testing.T) {
			c := newContainer(t)
			c.dropIn("evenkeel-deadline.service", "[Service]\nRestartSec=1s\n")
			c.evenkeel(`case $* in
"boot deadline")
	echo start >>/var/log/starts
	n=$(wc -l </var/log/starts)
	` + script + ` || exit 1
	touch /var/log/done ;;
agent)
	until [ -e /var/log/done ] && [ "$(systemctl show -P SubState evenkeel-deadline)" != running ]; do sleep 0.1; done
	say "$(systemctl show -P SubState evenkeel-deadline) after $(wc -l </var/log/starts)"
	systemctl --no-block poweroff ;;
esac
`)
			exit, said := c.boot()
			if exit != poweredOff || !strings.HasPrefix(said, fmt.Sprintf("dead after %d:", want)) {
				t.Errorf("exit %d, said %q, want dead after %d", exit, said, want)
			}
		})
	}
}
