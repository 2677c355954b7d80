package host_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/internal/durable"
	"github.com/evenkeel-os/evenkeel/internal/host"
	"github.com/evenkeel-os/evenkeel/internal/systemd/systemdtest"
	"github.com/evenkeel-os/evenkeel/updater"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	stateDir  = "/state"
	bootFile  = stateDir + "/boot.json"
	noteFile  = stateDir + "/deadline.json"
	osRelease = "ID=appliance\nIMAGE_VERSION=1.2.3\nEVENKEEL_SERIAL=42\n"
)

// computer is a tree of files that looks like a host, and its state partition.
type computer struct {
	t    testing.TB
	root string
	fs   durable.FS
	errs []error
}

func newComputer(t testing.TB) *computer {
	c := &computer{t: t, root: t.TempDir(), fs: fixtures.NewFS()}
	c.put("proc/uptime", "12.34 45.60\n")
	c.put("etc/os-release", osRelease)
	return c
}

func (c *computer) put(path, content string) {
	c.t.Helper()
	path = filepath.Join(c.root, path)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(content), 0o644)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *computer) remove(path string) {
	c.t.Helper()
	if err := os.RemoveAll(filepath.Join(c.root, path)); err != nil {
		c.t.Fatal(err)
	}
}

// move is what systemd-pstore does.
func (c *computer) move(from, to string) {
	c.t.Helper()
	b, err := os.ReadFile(filepath.Join(c.root, from))
	if err != nil {
		c.t.Fatal(err)
	}
	c.put(to, string(b))
	c.remove(from)
}

// start boots: a boot has a name of its own, and forgets the run directory.
func (c *computer) start(id string, slot updater.Slot) *host.Host {
	c.put("proc/sys/kernel/random/boot_id", id+"\n")
	c.put("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=PARTLABEL=root-"+string(slot)+" evenkeel.slot="+string(slot)+" panic=10\n")
	c.remove("run")
	return c.host()
}

// host is one process of ours.
func (c *computer) host() *host.Host {
	return host.New(host.Options{Root: c.root, StateDir: stateDir, FS: c.fs, OnError: func(err error) { c.errs = append(c.errs, err) }})
}

// begun boots as far as Begin.
func (c *computer) begun(id string, slot updater.Slot) *host.Host {
	c.t.Helper()
	h := c.start(id, slot)
	if err := h.Begin(); err != nil {
		c.t.Fatal(err)
	}
	return h
}

// shutDown ends the boot in order.
func (c *computer) shutDown(h *host.Host) {
	c.t.Helper()
	c.remove("run/systemd")
	systemdtest.Start(c.t, c.root).SetState("stopping")
	if err := h.End(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
}

// reset is what a process of ours sees that starts now.
func (c *computer) reset() updater.Reset {
	c.t.Helper()
	b, err := c.host().Boot()
	if err != nil {
		c.t.Fatal(err)
	}
	return b.Reset
}

func (c *computer) want(cause updater.Cause, slot updater.Slot, detail string) {
	c.t.Helper()
	if r := c.reset(); r.Cause != cause || r.Slot != slot || !strings.Contains(r.Detail, detail) {
		c.t.Errorf("reset = %+v, want %q in slot %q with %q", r, cause, slot, detail)
	}
}

func TestBoot(t *testing.T) {
	c := newComputer(t)
	b, err := c.begun("boot-1", updater.B).Boot()
	if err != nil {
		t.Fatal(err)
	}
	if b.ID != "boot-1" || b.Uptime != 12340*time.Millisecond || b.Running != (updater.Running{Version: "1.2.3", Serial: 42}) {
		t.Errorf("boot = %+v", b)
	}
	if b.Reset.Cause != updater.CauseUnknown || b.Reset.Slot != updater.NoSlot || b.Reset.Detail != "nothing is known of an earlier boot" {
		t.Errorf("reset = %+v", b.Reset)
	}
}

func TestBootSaysWhatIsMissing(t *testing.T) {
	tests := []struct{ path, content, want string }{
		{"proc/sys/kernel/random/boot_id", "", "cannot tell which boot this is"},
		{"proc/sys/kernel/random/boot_id", "two words\n", `boot_id says "two words"`},
		{"proc/sys/kernel/random/boot_id", strings.Repeat("x", 65), "boot_id says"},
		{"proc/uptime", "", "cannot tell the uptime: /proc/uptime says"},
		{"proc/uptime", "-1 0\n", `/proc/uptime says "-1 0`},
		{"proc/uptime", "NaN 0\n", "/proc/uptime says"},
		{"proc/uptime", "1e300 0\n", "/proc/uptime says"},
		{"proc/uptime", "soon\n", "/proc/uptime says"},
		{"etc/os-release", "ID=x\n", "os-release has no IMAGE_VERSION"},
	}
	for _, tt := range tests {
		c := newComputer(t)
		h := c.start("boot-1", updater.A)
		c.put(tt.path, tt.content)
		if _, err := h.Boot(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s = %q: error %v, want %q", tt.path, tt.content, err, tt.want)
		}
		c.remove(tt.path)
		if _, err := h.Boot(); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("without %s: error %v", tt.path, err)
		}
	}
}

func TestSlot(t *testing.T) {
	tests := []struct {
		line string
		want updater.Slot
	}{
		{"evenkeel.slot=a\n", updater.A},
		{"quiet evenkeel.slot=b panic=10\n", updater.B},
		{`quiet "evenkeel.slot=b"`, updater.B},
		{"evenkeel.slot=a evenkeel.slot=a", updater.A},
		{"evenkeel.slot=a evenkeel.slot=b", updater.NoSlot},
		{"evenkeel.slot=c", updater.NoSlot},
		{"evenkeel.slot=", updater.NoSlot},
		{"evenkeel.slot=ab xevenkeel.slot=a", updater.NoSlot},
		{"", updater.NoSlot},
	}
	c := newComputer(t)
	for _, tt := range tests {
		c.put("proc/cmdline", tt.line)
		if got := host.Slot(c.root); got != tt.want {
			t.Errorf("Slot of %q = %q, want %q", tt.line, got, tt.want)
		}
	}
	c.remove("proc")
	if got := host.Slot(c.root); got != updater.NoSlot {
		t.Errorf("without a command line: %q", got)
	}
}

func TestRebootNotesTheOrderlyEndAndAsks(t *testing.T) {
	c := newComputer(t)
	c.begun("boot-1", updater.A)
	asked := filepath.Join(c.root, "asked")
	h := host.New(host.Options{Root: c.root, StateDir: stateDir, FS: c.fs, Rebooter: &host.Rebooter{
		Root: c.root, Command: []string{"/bin/sh", "-c", `echo "arg=$EVENKEEL_REBOOT_ARG" >"$0"`, asked},
	}})
	if err := h.Reboot(t.Context(), updater.Reboot{Arg: "0 tryboot"}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(asked); err != nil || string(b) != "arg=0 tryboot\n" {
		t.Errorf("the command saw %q, %v", b, err)
	}
	c.begun("boot-2", updater.B)
	c.want(updater.CauseReboot, updater.A, "Evenkeel asked for a reboot")
}

// TestRebootThoughTheMarkCannotBeWritten: a full disk must not keep a machine in a slot.
func TestRebootThoughTheMarkCannotBeWritten(t *testing.T) {
	c := newComputer(t)
	disk := fixtures.NewFS()
	disk.Fail(func(string, string) error { return fs.ErrPermission })
	c.fs = disk
	c.start("boot-1", updater.A)
	o := host.Options{Root: c.root, StateDir: stateDir, FS: c.fs, OnError: func(err error) { c.errs = append(c.errs, err) }}
	if err := host.New(o).Reboot(t.Context(), updater.Reboot{}); err == nil || !strings.Contains(err.Error(), "without a way to") {
		t.Errorf("without a rebooter: %v", err)
	}
	o.Rebooter = &host.Rebooter{Root: c.root, Command: []string{"true"}}
	if err := host.New(o).Reboot(t.Context(), updater.Reboot{}); err != nil {
		t.Errorf("Reboot = %v", err)
	}
	if len(c.errs) != 1 || !errors.Is(c.errs[0], fs.ErrPermission) {
		t.Errorf("heard %v, want what became of the mark", c.errs)
	}
}
