package host_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/internal/host"
	"github.com/evenkeel-os/evenkeel/internal/systemd/systemdtest"
	"github.com/evenkeel-os/evenkeel/updater"
)

// A dump as EFI stores it: the parts of one panic, the last lines in part 1.
const (
	panicFile = "sys/fs/pstore/dmesg-efi_pstore-176000000001001"
	panicText = "Panic#1 Part1\n<6>[    0.000000] Kernel command line: root=/dev/sda3 evenkeel.slot=b panic=10\n" +
		"<0>[    1.500000] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n" +
		"<4>[    1.500100] CPU: 0 PID: 1 Comm: swapper/0\n"
	shortPanic = "Panic#1 Part1\n<0>[   30.000000] Kernel panic - not syncing: sysrq triggered crash\n"
	note       = `{"slot":"b","boot":"boot-1","why":"the agent did not confirm slot b within 10m0s of its start"}`
)

const (
	dogStatus = "sys/class/watchdog/watchdog0/bootstatus"
	powerOn   = "sys/devices/platform/soc/soc:por/power_on_reason"
)

// i6300esb is what Linux shows of QEMU's watchdog after it reset the machine.
func i6300esb(c *computer) {
	c.put(dogStatus, "32\n")
	c.put("sys/class/watchdog/watchdog0/identity", "i6300ESB timer\n")
}

// TestWhyABootEnded: boot-1 runs slot b, ends somehow, and leaves traces; boot-2 finds them.
func TestWhyABootEnded(t *testing.T) {
	tests := []struct {
		name    string
		inOrder bool
		traces  func(*computer)
		cause   updater.Cause
		slot    updater.Slot
		detail  string
	}{
		{"nothing", false, func(*computer) {}, updater.CauseUnknown, "b", "the power was lost, or it was reset, or it crashed without a word"},
		{"in order", true, func(*computer) {}, updater.CauseReboot, "b", "it was shut down in order"},
		{"note", false, func(c *computer) { c.putState(noteFile, note) }, updater.CauseDeadline, "b", "did not confirm slot b within 10m0s"},
		{"note, in order", true, func(c *computer) { c.putState(noteFile, note) }, updater.CauseDeadline, "b", "did not confirm"},
		{"note of nobody knows which slot", false, func(c *computer) { c.putState(noteFile, `{"slot":"","boot":"boot-1","why":"x","unsure":true}`) }, updater.CauseDeadline, "", "x"},
		{"note that is torn", false, func(c *computer) { c.putState(noteFile, note[:20]) }, updater.CauseUnknown, "b", ""},
		{"note that is zeros", false, func(c *computer) { c.putState(noteFile, strings.Repeat("\x00", 512)) }, updater.CauseUnknown, "b", ""},
		{"panic that names its slot", true, func(c *computer) { c.put(panicFile, panicText) }, updater.CausePanic, "b", "VFS: Unable to mount root fs on unknown-block(0,0)\n<6>"},
		{"panic", false, func(c *computer) { c.put(panicFile, shortPanic) }, updater.CausePanic, "b", "sysrq triggered crash"},
		{"panic of a boot that never began", true, func(c *computer) { c.put(panicFile, shortPanic) }, updater.CausePanic, "", "sysrq triggered crash"},
		{"panic that systemd moved", false, func(c *computer) {
			c.put("var/lib/systemd/pstore/1760000000/001/dmesg-efi_pstore-176000000001001", shortPanic)
		}, updater.CausePanic, "b", "sysrq"},
		{"panic of ramoops", false, func(c *computer) { c.put("sys/fs/pstore/dmesg-ramoops-0", shortPanic) }, updater.CausePanic, "b", "sysrq"},
		{"oops", false, func(c *computer) { c.put(panicFile, "Oops#1 Part1\n<4>[ 9.0] BUG: kernel NULL pointer dereference\n") }, updater.CauseUnknown, "b", ""},
		{"something else in pstore", false, func(c *computer) {
			c.put("sys/fs/pstore/console-ramoops-0", "Panic#1 Part1\nKernel panic - not syncing: x\n")
			c.put("var/lib/systemd/pstore/1760000000/001/dmesg.txt", panicText)
			c.put("sys/fs/pstore/dmesg-efi_pstore-176000000002001.enc.z", "\x78\x9c\x00")
			c.put("sys/fs/pstore/dmesg-erst-1", "")
		}, updater.CauseUnknown, "b", ""},
		{"watchdog", false, i6300esb, updater.CauseWatchdog, "b", "watchdog0 (i6300ESB timer) says that it reset the machine"},
		{"watchdog of a boot that never began", true, i6300esb, updater.CauseWatchdog, "", "watchdog0"},
		{"watchdog in hexadecimal", false, func(c *computer) { c.put(dogStatus, "0x20\n") }, updater.CauseWatchdog, "b", "watchdog0 says"},
		{"watchdog that was not it", false, func(c *computer) { c.put(dogStatus, "0\n") }, updater.CauseUnknown, "b", ""},
		{"watchdog that talks of the fan", false, func(c *computer) { c.put(dogStatus, "2\n") }, updater.CauseUnknown, "b", ""},
		{"watchdog that cannot be read", false, func(c *computer) { c.put(dogStatus, "eh\n") }, updater.CauseUnknown, "b", ""},
		{"the second of two watchdogs", false, func(c *computer) {
			c.put(dogStatus, "0\n")
			c.put("sys/class/watchdog/watchdog1/bootstatus", "32\n")
		}, updater.CauseWatchdog, "b", "watchdog1"},
		{"watchdog that saw bad power", false, func(c *computer) { c.put(dogStatus, "16\n") }, updater.CausePower, "b", "watchdog0 says that the power was bad"},
		{"platform: watchdog", false, func(c *computer) { c.put(powerOn, "watchdog timeout\n") }, updater.CauseWatchdog, "b", "the platform's watchdog"},
		{"platform: brown-out", true, func(c *computer) { c.put(powerOn, "brown-out reset\n") }, updater.CausePower, "", `the platform says "brown-out reset"`},
		{"platform: switched on", false, func(c *computer) { c.put(powerOn, "regular power-up\n") }, updater.CausePower, "b", "and it did not shut down in order"},
		{"platform: switched on after an orderly end", true, func(c *computer) { c.put(powerOn, "regular power-up\n") }, updater.CauseReboot, "b", "in order"},
		{"platform: reset button", false, func(c *computer) { c.put(powerOn, "reset button action\n") }, updater.CauseUnknown, "b", ""},
		{"panic, then the watchdog", false, func(c *computer) { c.put(panicFile, shortPanic); i6300esb(c) }, updater.CausePanic, "b", ""},
		{"everything", true, func(c *computer) {
			c.putState(noteFile, note)
			c.put(panicFile, panicText)
			i6300esb(c)
			c.put(powerOn, "brown-out reset\n")
		}, updater.CauseDeadline, "b", ""},
		{"watchdog and bad power", false, func(c *computer) { i6300esb(c); c.put(powerOn, "brown-out reset\n") }, updater.CauseWatchdog, "b", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newComputer(t)
			h := c.begun("boot-1", updater.B)
			if tt.inOrder {
				c.shutDown(h)
			}
			tt.traces(c)
			c.start("boot-2", updater.A)
			c.want(tt.cause, tt.slot, tt.detail) // before Begin, which may be impossible
			for range 2 {
				c.begun("boot-2", updater.A)
				c.want(tt.cause, tt.slot, tt.detail)
			}
			if b, err := c.fs.ReadFile(noteFile); err == nil && !strings.Contains(string(b), "unsure") {
				t.Errorf("the note is still there: %s", b)
			}
			c.shutDown(c.host())
			c.remove("sys/class") // about the boot right before only
			c.remove(powerOn)
			c.begun("boot-3", updater.A)
			c.want(updater.CauseReboot, updater.A, "in order")
		})
	}
}

func (c *computer) putState(path, content string) { c.fs.(*fixtures.FS).Put(path, []byte(content)) }

// TestLateTraces: drivers load after the early unit, and a stronger trace replaces a weaker one, not the other way round.
func TestLateTraces(t *testing.T) {
	c := newComputer(t)
	c.begun("boot-1", updater.B)
	c.begun("boot-2", updater.A)
	c.want(updater.CauseUnknown, updater.B, "")
	i6300esb(c)
	c.want(updater.CauseWatchdog, updater.B, "")
	c.begun("boot-2", updater.A)
	c.put(panicFile, shortPanic)
	c.begun("boot-2", updater.A)
	c.want(updater.CausePanic, updater.B, "")
	c.remove("sys")
	c.begun("boot-2", updater.A)
	c.want(updater.CausePanic, updater.B, "")
	c.begun("boot-3", updater.A)
	c.want(updater.CauseUnknown, updater.A, "")
}

// TestAPanicCountsOnce, wherever it is moved, however late it turns up again, and though boots in between do not see it.
func TestAPanicCountsOnce(t *testing.T) {
	c := newComputer(t)
	c.begun("boot-1", updater.B)
	c.put(panicFile, shortPanic)
	c.begun("boot-2", updater.A)
	c.want(updater.CausePanic, updater.B, "")
	c.begun("boot-3", updater.A)
	c.want(updater.CauseUnknown, updater.A, "")
	moved := "var/lib/systemd/pstore/1760000000/001/dmesg-efi_pstore-176000000001001"
	c.move(panicFile, moved)
	c.begun("boot-4", updater.A)
	c.want(updater.CauseUnknown, updater.A, "")
	c.move(moved, "elsewhere")
	c.begun("boot-5", updater.A)
	c.begun("boot-6", updater.A)
	c.move("elsewhere", moved)
	c.begun("boot-6", updater.A)
	c.want(updater.CauseUnknown, updater.A, "")
	c.put("sys/fs/pstore/dmesg-efi_pstore-176000000101001", shortPanic)
	c.begun("boot-7", updater.A)
	c.want(updater.CausePanic, updater.A, "")
}

// TestTheLastPanicIsTold: a dead image panics once for each try, and each panic has several parts.
func TestTheLastPanicIsTold(t *testing.T) {
	c := newComputer(t)
	c.begun("boot-1", updater.A)
	c.shutDown(c.host())
	for i := range 3 {
		at := fmt.Sprintf("sys/fs/pstore/dmesg-efi_pstore-176000000%d", i)
		c.put(at+"01001", fmt.Sprintf("Panic#1 Part1\n<0>[ 1.5] Kernel panic - not syncing: number %d\n<4>[ 1.6] last of %d\n", i, i))
		c.put(at+"02001", fmt.Sprintf("Panic#1 Part2\n<6>[ 1.4] before of %d\n", i))
		c.put(at+"10001", fmt.Sprintf("Panic#1 Part10\n<6>[ 0.0] Kernel command line: quiet evenkeel.slot=b\n<6>[ 0.1] first of %d\n", i))
	}
	c.begun("boot-5", updater.A)
	c.want(updater.CausePanic, updater.B, "number 2\n<6>[ 0.0] Kernel command line: quiet evenkeel.slot=b\n<6>[ 0.1] first of 2\n"+
		"<6>[ 1.4] before of 2\n<0>[ 1.5] Kernel panic - not syncing: number 2\n<4>[ 1.6] last of 2")
}

// TestAPanicThatIsBeingMoved is in both places for a moment, and told once.
func TestAPanicThatIsBeingMoved(t *testing.T) {
	c := newComputer(t)
	c.begun("boot-1", updater.B)
	c.put(panicFile, shortPanic)
	c.put("var/lib/systemd/pstore/1760000000/001/dmesg-efi_pstore-176000000001001", shortPanic)
	c.begun("boot-2", updater.A)
	c.want(updater.CausePanic, updater.B, "sysrq")
	if n := strings.Count(c.reset().Detail, "<0>"); n != 1 {
		t.Errorf("the panic is told %d times: %q", n, c.reset().Detail)
	}
}

// TestAPanicThatTookSeconds: names and parts are as OVMF under emulation kept them. The panic before it is another one.
func TestAPanicThatTookSeconds(t *testing.T) {
	c := newComputer(t)
	c.begun("boot-1", updater.B)
	dir := "var/lib/systemd/pstore/179564957/dmesg-efi-1795649"
	for name, text := range map[string]string{
		"55001001": "Panic#1 Part1\n<0>[ 1.0] Kernel panic - not syncing: an earlier one\n",
		"57401001": "Panic#1 Part1\n<4>[136.077645] Hardware name: QEMU Standard PC\n<4>[136.078183] Call Trace:\n",
		"57402001": "Panic#1 Part2\n<6>[ 16.877568] Run /init as init process\n<0>[136.070000] Kernel panic - not syncing: sysrq triggered crash\n",
		"57503001": "Panic#1 Part3\n<6>[ 1.470300] ACPI: PCI: Interrupt link GSIA configured for IRQ 16\n",
		"57714001": "Panic#1 Part14\n<6>[ 0.000000] Kernel command line: evenkeel.slot=b\n",
	} {
		c.put(dir+name, text)
	}
	c.begun("boot-2", updater.A)
	c.want(updater.CausePanic, updater.B, "sysrq triggered crash\n")
	if d := c.reset().Detail; !strings.HasSuffix(d, "Call Trace:") || strings.Contains(d, "an earlier one") || !strings.Contains(d, "command line") {
		t.Errorf("the dump is told as %q", d)
	}
}

func TestALongPanicIsBounded(t *testing.T) {
	c := newComputer(t)
	c.begun("boot-1", updater.B)
	c.put(panicFile, "Panic#1 Part1\n"+strings.Repeat("<4>[ 1.0] noise \x1b[31m \xff\n", 20000)+"Kernel panic - not syncing: "+strings.Repeat("why", 200)+"\n")
	c.put("sys/fs/pstore/dmesg-efi_pstore-176000000002001", "Panic#1 Part2\nx\n")
	c.begun("boot-2", updater.A)
	c.want(updater.CausePanic, updater.B, "whywhywhy\n…\n<4>[ 1.0] noise [31m \uFFFD")
	if d := c.reset().Detail; len(d) > 2<<10 || strings.Contains(d, "\x1b") || !utf8.ValidString(d) {
		t.Errorf("detail has %d bytes: %q", len(d), d)
	}
}

// TestTheNewestOfManyPanicsIsSeen: a machine that collected dumps for years.
func TestTheNewestOfManyPanicsIsSeen(t *testing.T) {
	c := newComputer(t)
	for i := range 300 {
		c.put(fmt.Sprintf("var/lib/systemd/pstore/1760000%03d/001/dmesg-efi_pstore-1760000%03d01001", i, i), shortPanic)
	}
	c.begun("boot-1", updater.B)
	c.want(updater.CauseUnknown, updater.NoSlot, "")
	c.put("var/lib/systemd/pstore/1760000900/001/dmesg-efi_pstore-176000090001001", shortPanic)
	c.begun("boot-2", updater.A)
	c.want(updater.CausePanic, updater.B, "")
	c.begun("boot-3", updater.A)
	c.want(updater.CauseUnknown, updater.A, "")
	if b, _ := c.fs.ReadFile(bootFile); len(b) > 32<<10 {
		t.Errorf("boot.json has %d bytes", len(b))
	}
}

// TestNoMemoryOfEarlierBoots: without boot.json nobody knows which panics are old, so none counts; the note names its boot.
func TestNoMemoryOfEarlierBoots(t *testing.T) {
	damage := map[string][]byte{
		"lost": nil, "zeros": make([]byte, 512), "torn": []byte(`{"boot":"boot-1","sl`), "empty": {}, "null": []byte("null"),
		"nobody's": []byte(`{"slot":"b"}`), "of another slot": []byte(`{"boot":"boot-1","slot":"c"}`),
		"of another slot before": []byte(`{"boot":"boot-1","previous":{"boot":"boot-0","slot":"../x"}}`),
		"of another reset":       []byte(`{"boot":"boot-2","reset":{"cause":"panic","slot":"x"}}`),
	}
	for name, data := range damage {
		t.Run(name, func(t *testing.T) {
			c := newComputer(t)
			c.put(panicFile, panicText)
			if data != nil {
				c.fs.(*fixtures.FS).Put(bootFile, data)
			}
			c.begun("boot-2", updater.A)
			c.want(updater.CauseUnknown, updater.NoSlot, "nothing is known of an earlier boot")
			if (len(c.errs) > 0) != (data != nil) {
				t.Errorf("heard %v", c.errs)
			}
			c.putState(noteFile, note)
			c.begun("boot-2", updater.A)
			c.want(updater.CauseDeadline, updater.B, "did not confirm")
		})
	}
}

// TestANoteOfThisBoot: the deadline unit wrote it, the reboot did not come yet, and then it came in order.
func TestANoteOfThisBoot(t *testing.T) {
	c := newComputer(t)
	c.begun("boot-0", updater.A)
	c.begun("boot-1", updater.B)
	c.putState(noteFile, note)
	c.begun("boot-1", updater.B)
	c.want(updater.CauseUnknown, updater.A, "")
	if _, err := c.fs.ReadFile(noteFile); err != nil {
		t.Errorf("the note is gone: %v", err)
	}
	c.shutDown(c.host())
	c.begun("boot-2", updater.A)
	c.want(updater.CauseDeadline, updater.B, "")
}

// TestAnUnsureNoteStaysAndCountsOnce: it keeps the deadline unit from rebooting again, until an agent took over.
func TestAnUnsureNoteStaysAndCountsOnce(t *testing.T) {
	c := newComputer(t)
	c.begun("boot-1", updater.B)
	c.putState(noteFile, `{"slot":"b","boot":"boot-1","why":"nobody could tell","unsure":true}`)
	c.begun("boot-2", updater.A)
	c.want(updater.CauseDeadline, updater.B, "nobody could tell")
	c.begun("boot-3", updater.A)
	c.want(updater.CauseUnknown, updater.A, "")
	if _, err := c.fs.ReadFile(noteFile); err != nil {
		t.Errorf("the note is gone: %v", err)
	}
	if err := c.host().Disarm(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.fs.ReadFile(noteFile); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an agent took over and the note is still there: %v", err)
	}
}

func TestAnEndThatDidNotCome(t *testing.T) {
	c := newComputer(t)
	h := c.begun("boot-1", updater.B)
	c.shutDown(h)
	c.begun("boot-1", updater.B) // the shutdown was cancelled, and the agent starts again
	c.begun("boot-2", updater.A)
	c.want(updater.CauseUnknown, updater.B, "did not shut down in order")
}

// TestEndOfTheUnitIsNotEndOfTheBoot: a person may stop the unit at any time.
func TestEndOfTheUnitIsNotEndOfTheBoot(t *testing.T) {
	for _, state := range []string{"running", "degraded", "starting"} {
		c := newComputer(t)
		h := c.begun("boot-1", updater.B)
		systemdtest.Start(t, c.root).SetState(state)
		if err := h.End(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.begun("boot-2", updater.A)
		c.want(updater.CauseUnknown, updater.B, "")
	}
	c := newComputer(t)
	if err := c.begun("boot-1", updater.B).End(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot ask systemd") {
		t.Errorf("without systemd: %v", err)
	}
}

// TestTheFirstReasonStays: Evenkeel asked, and then the shutdown came.
func TestTheFirstReasonStays(t *testing.T) {
	c := newComputer(t)
	c.begun("boot-1", updater.B)
	h := host.New(host.Options{Root: c.root, StateDir: stateDir, FS: c.fs, Rebooter: &host.Rebooter{Root: c.root, Command: []string{"true"}}})
	if err := h.Reboot(t.Context(), updater.Reboot{}); err != nil {
		t.Fatal(err)
	}
	steps := c.fs.(*fixtures.FS).Steps()
	c.shutDown(c.host())
	if c.fs.(*fixtures.FS).Steps() != steps {
		t.Error("boot.json was written again")
	}
	c.begun("boot-2", updater.A)
	c.want(updater.CauseReboot, updater.B, "Evenkeel asked for a reboot")
}

// TestWhatWasSeenIsBounded: the oldest is forgotten, and only then.
func TestWhatWasSeenIsBounded(t *testing.T) {
	var ids, want []string
	for i := range 600 {
		ids = append(ids, fmt.Sprint(i))
	}
	want = append(want, ids[87+1:]...)
	want = append(want, "5")
	if got := host.Bounded(append(ids, "5")); !slices.Equal(got, want) {
		t.Errorf("kept %d: %q ... %q", len(got), got[:3], got[len(got)-3:])
	}
	if got := host.Bounded([]string{"a", "b", "a"}); !slices.Equal(got, []string{"b", "a"}) {
		t.Errorf("kept %q", got)
	}
}

// TestPowerCutsWhileNoting cuts the power after every step of Begin, in every way, in the boot that finds the note of a
// dead slot. The next boot that gets through learns of the note, once: it is evidence that must not get lost, and must
// not count again.
func TestPowerCutsWhileNoting(t *testing.T) {
	for _, how := range fixtures.Crashes() {
		for n, done := 0, false; !done; n++ {
			c := newComputer(t)
			c.begun("boot-0", updater.A)
			c.putState(noteFile, note)
			disk := c.fs.(*fixtures.FS)
			disk.CutAfter(n)
			learnt := c.start("boot-2", updater.A).Begin() == nil
			done = learnt
			c.fs = disk.Crash(how)
			c.begun("boot-3", updater.A)
			saved := c.saved()
			known := saved.Reset.Cause == updater.CauseDeadline
			old := slices.Contains(saved.Old, "note:boot-1")
			if known == old {
				t.Errorf("cut after %d steps, %v: learnt %v, known before %v", n, how, known, old)
			}
			if learnt && known {
				t.Errorf("cut after %d steps, %v: Begin returned nil and the note counts again", n, how)
			}
			if _, err := c.fs.ReadFile(noteFile); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("cut after %d steps, %v: the note is still there: %v", n, how, err)
			}
		}
	}
}

type savedBoots struct {
	Boot  string
	Slot  updater.Slot
	Old   []string
	Reset updater.Reset
}

func (c *computer) saved() (b savedBoots) {
	c.t.Helper()
	data, err := c.fs.ReadFile(bootFile)
	if err == nil {
		err = json.Unmarshal(data, &b)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

// TestAFullDiskIsNoReasonNotToKnow: Boot answers from what it sees.
func TestAFullDiskIsNoReasonNotToKnow(t *testing.T) {
	c := newComputer(t)
	c.begun("boot-1", updater.B)
	c.put(panicFile, shortPanic)
	c.fs.(*fixtures.FS).Limit(0)
	if err := c.start("boot-2", updater.A).Begin(); err == nil || !strings.Contains(err.Error(), "cannot note that this boot runs") {
		t.Errorf("Begin = %v", err)
	}
	c.want(updater.CausePanic, updater.B, "")
}

// FuzzState: whatever lies in the state directory, what is said of a boot is one of the causes and slots that exist.
func FuzzState(f *testing.F) {
	f.Add([]byte(`{"boot":"boot-1","slot":"b","ended":"x","previous":{"boot":"boot-0"},"reset":{"cause":"panic"},"old":["a"],"seen":["b"]}`), []byte(note))
	f.Add([]byte(`{"boot":"boot-2","reset":{"cause":"strange","slot":"b"}}`), []byte(`{"boot":"boot-2"}`))
	f.Add([]byte("\x00\x00"), []byte("null"))
	tree := newComputer(f)
	tree.put(panicFile, panicText)
	tree.start("boot-2", updater.A)
	f.Fuzz(func(t *testing.T, boot, note []byte) {
		c := &computer{t: t, root: tree.root, fs: fixtures.NewFS()}
		c.putState(bootFile, string(boot))
		c.putState(noteFile, string(note))
		if err := c.host().Begin(); err != nil {
			t.Fatal(err)
		}
		r := c.reset()
		causes := []updater.Cause{updater.CauseUnknown, updater.CausePower, updater.CausePanic, updater.CauseWatchdog, updater.CauseDeadline, updater.CauseReboot}
		if !slices.Contains(causes, r.Cause) || r.Slot != updater.NoSlot && r.Slot.Other() == updater.NoSlot || len(r.Detail) > 2<<10 && len(boot) < 2<<10 {
			t.Errorf("reset = %+v", r)
		}
		if s := c.saved(); s.Boot != "boot-2" || s.Slot != updater.A {
			t.Errorf("saved %+v", s)
		}
	})
}
