package bootloader_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel-os/evenkeel/bootloader"
	"github.com/evenkeel-os/evenkeel/bootloader/grubenv"
	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/updater"
)

const (
	kernelA = "/efi/evenkeel/a/vmlinuz"
	kernelB = "/efi/evenkeel/b/vmlinuz"
)

// bench is the same machine twice: QEMU with the real GRUB, and the firmware in Go.
type bench struct {
	*testing.T
	real *image
	twin *fixtures.GRUBRig
	qemu *machine
}

func specOf(s updater.Slot) release.BootSpec {
	return release.BootSpec{
		Kernel: "kernel:vmlinuz", Initrd: "initrd:initrd.img",
		Cmdline: `root={root} ro panic=10 dyndbg="file x +p" odd=$root;reboot|(hd*)#~&<>{slot}`,
	}
}

func realFiles(t *testing.T) map[string][]byte {
	rig := factory(t, fixtures.EvenkeelScript)
	files := map[string][]byte{
		"/efi/evenkeel/grub.cfg": bootloader.Snippet(),
		kernelA:                  bzImage(stub, "slot a"),
		kernelB:                  bzImage(stub, "slot b"),
	}
	for _, name := range []string{envPath, entriesDir + "/a/boot.cfg", entriesDir + "/b/boot.cfg"} {
		files[name] = rig.Firmware.Files.Get(name)
	}
	files[envPath] = noMenu(t, files[envPath])
	for _, s := range []string{"a", "b"} {
		files["/efi/evenkeel/"+s+"/initrd.img"] = []byte("the initrd of " + s + "\n")
	}
	return files
}

// noMenu saves the two seconds of every boot.
func noMenu(t *testing.T, block []byte) []byte {
	t.Helper()
	b, err := grubenv.Parse(block)
	if err == nil {
		err = b.Set("evenkeel_timeout", "0")
	}
	if err != nil {
		t.Fatal(err)
	}
	block, err = b.Format()
	if err != nil {
		t.Fatal(err)
	}
	return block
}

func newBench(t *testing.T) *bench {
	needFirmware(t)
	b := &bench{T: t, twin: factory(t, fixtures.EvenkeelScript)}
	files := realFiles(t)
	b.twin.Firmware.Missing = map[updater.Slot]bool{}
	for name, data := range files {
		b.twin.Firmware.Files.Put(name, data)
	}
	b.real = newImage(t, files)
	return b
}

func (b *bench) adapter() updater.Bootloader {
	g, err := bootloader.NewGRUB(bootloader.Options{
		Grubenv: envPath, Entries: entriesDir, Script: bootloader.ScriptEvenkeel, PartUUID: partUUID, Files: b.real,
	})
	if err != nil {
		b.Fatal(err)
	}
	return g
}

// both runs the same on the files of both machines.
func (b *bench) both(what string, verb func(updater.Bootloader) error) {
	b.Helper()
	if err := verb(b.adapter()); err != nil {
		b.Fatalf("%s on the disk image: %v", what, err)
	}
	if err := verb(b.twin); err != nil {
		b.Fatalf("%s on the twin: %v", what, err)
	}
}

func (b *bench) try(s updater.Slot, n int) {
	b.Helper()
	b.both("Try", func(l updater.Bootloader) error { _, err := l.Try(s, specOf(s), n); return err })
}

func (b *bench) confirm(s updater.Slot) {
	b.Helper()
	b.both("Confirm", func(l updater.Bootloader) error { return l.Confirm(s) })
}

func (b *bench) disable(s updater.Slot) {
	b.Helper()
	b.both("Disable", func(l updater.Bootloader) error { return l.Disable(s) })
}

// breakKernel makes the kernel of s one that GRUB refuses, or good again.
func (b *bench) breakKernel(s updater.Slot, broken bool) {
	b.Helper()
	b.twin.Firmware.Missing[s] = broken
	magic := map[bool]string{true: "\x00\x00", false: "\x55\xaa"}[broken]
	if err := b.real.Write("/efi/evenkeel/"+string(s)+"/vmlinuz", 0x1fe, []byte(magic)); err != nil {
		b.Fatal(err)
	}
}

// damage overwrites the first sector of both environment blocks.
func (b *bench) damage() {
	b.Helper()
	b.twin.Damage()
	if err := b.real.Write(envPath, 0, make([]byte, grubenv.Sector)); err != nil {
		b.Fatal(err)
	}
}

// boot resets both machines and compares what they did, and what is in their environment blocks then.
func (b *bench) boot(want updater.Slot) trace {
	b.Helper()
	began := time.Now()
	if b.qemu == nil {
		b.qemu = powerOn(b.T, b.real, "")
	} else {
		b.qemu.reset()
	}
	return b.compare(want, began)
}

func (b *bench) compare(want updater.Slot, began time.Time) trace {
	b.Helper()
	tr := b.qemu.await("")
	b.Logf("%.1fs %q", time.Since(began).Seconds(), tr.notes)
	var notes []string
	slot := updater.NoSlot
	for slot == updater.NoSlot {
		g := b.twin.Firmware.Boot()
		notes, slot = append(notes, g.Note), g.Slot
	}
	if slot != want {
		b.Errorf("the twin boots slot %q, want %q", slot, want)
	}
	if !strings.Contains(tr.cmdline, " evenkeel.slot="+string(want)+" ") {
		b.Errorf("the real machine boots %q, want slot %q", tr.cmdline, want)
	}
	if real := decisions(tr.notes); !slices.Equal(real, notes) {
		b.Errorf("the real machine says %q, the twin %q", real, notes)
	}
	b.compareEnv()
	return tr
}

// decisions are the notes that the twin makes too.
func decisions(notes []string) []string {
	return slices.DeleteFunc(slices.Clone(notes), func(n string) bool {
		return strings.HasPrefix(n, "cannot load") || strings.HasPrefix(n, "no default slot") || strings.HasPrefix(n, "cannot write")
	})
}

func (b *bench) compareEnv() {
	b.Helper()
	real, err := b.real.Read(envPath)
	if err != nil {
		b.Fatal(err)
	}
	if twin := b.twin.Firmware.Files.Get(envPath); !bytes.Equal(real, twin) {
		b.Errorf("the environment blocks differ:\n%s\n%s", real, twin)
	}
	got, err := b.adapter().State()
	want, twinErr := b.twin.State()
	if got != want || err != nil || twinErr != nil {
		b.Errorf("State is %+v (%v), the twin's %+v (%v)", got, err, want, twinErr)
	}
}

// TestRealGRUB runs one story on GRUB under OVMF and on fixtures.GRUBFirmware, and compares every boot.
func TestRealGRUB(t *testing.T) {
	b := newBench(t)
	b.boot(updater.A)

	b.try(updater.B, 1)
	tr := b.boot(updater.B)
	for _, want := range []string{
		" root=PARTUUID=11111111-2222-3333-4444-00000000000b ro ", ` "dyndbg=file x +p" `, " odd=$root;reboot|(hd*)#~&<>b ", "the initrd of b",
	} {
		if !strings.Contains(tr.cmdline, want) {
			t.Errorf("the kernel was started with %q, it lacks %q", tr.cmdline, want)
		}
	}
	b.boot(updater.A)

	b.try(updater.B, 3)
	b.boot(updater.B)
	b.boot(updater.B)
	b.boot(updater.B)
	b.boot(updater.A)
	b.try(updater.B, 2)
	b.boot(updater.B)
	b.confirm(updater.B)
	b.boot(updater.B)
	b.disable(updater.A)
	b.boot(updater.B)

	t.Log("a trial whose kernel cannot be loaded spends its tries, is noted, and the default boots")
	b.breakKernel(updater.A, true)
	b.try(updater.A, 2)
	b.boot(updater.B)
	if st, _ := b.adapter().State(); !st.Trial.LoadError || st.Trial.TriesLeft != 0 {
		t.Errorf("State is %+v, want a noted load error", st)
	}
	b.breakKernel(updater.A, false)

	t.Log("a default whose kernel cannot be loaded: the other one")
	b.confirm(updater.A)
	b.breakKernel(updater.A, true)
	b.boot(updater.B)
	b.breakKernel(updater.A, false)

	t.Log("damaged variables: a, unless its entry was retired")
	b.damage()
	b.boot(updater.A)
	b.breakKernel(updater.A, true)
	b.boot(updater.B)
	b.breakKernel(updater.A, false)
	b.confirm(updater.B)
	b.disable(updater.A)
	b.damage()
	b.boot(updater.B)

	t.Log("nothing can be loaded: it goes on trying")
	b.breakKernel(updater.B, true)
	b.qemu.reset()
	b.qemu.await("no slot can be loaded")
	b.breakKernel(updater.B, false)
	b.compare(updater.B, time.Now())
}

// TestRealGRUBKernelInsideSlot boots a kernel that lies in the slot's own file system, found by its PARTUUID.
func TestRealGRUBKernelInsideSlot(t *testing.T) {
	b := newBench(t)
	spec := release.BootSpec{Kernel: "root:/boot/vmlinuz", Initrd: "initrd:initrd.img", Cmdline: "root={root}"}
	b.both("Try", func(l updater.Bootloader) error { _, err := l.Try(updater.B, spec, 1); return err })
	tr := b.boot(updater.B)
	if want := "BOOT_IMAGE=(hd0,gpt3)/boot/vmlinuz root=PARTUUID="; !strings.Contains(tr.cmdline, want) {
		t.Errorf("the kernel was started with %q, want %q", tr.cmdline, want)
	}
}

// TestRealGRUBThatCannotWrite: a disk that has become read-only boots the default, not the trial for ever.
func TestRealGRUBThatCannotWrite(t *testing.T) {
	b := newBench(t)
	b.try(updater.B, 2)
	b.twin.Deaf(true)
	b.qemu = powerOn(t, b.real, ",readonly=on")
	tr := b.compare(updater.A, time.Now())
	if !slices.Contains(tr.notes, "cannot write (hd0,gpt1)/evenkeel/grubenv, no trial") {
		t.Errorf("it says %q", tr.notes)
	}
}

// TestRealGRUBWithoutGrubenv boots a, and b where a has no boot entry.
func TestRealGRUBWithoutGrubenv(t *testing.T) {
	needFirmware(t)
	files := realFiles(t)
	delete(files, envPath)
	im := newImage(t, files)
	m := powerOn(t, im, "")
	if tr := m.await(""); !strings.Contains(tr.cmdline, "evenkeel.slot=a") {
		t.Errorf("it boots %q, want slot a", tr.cmdline)
	}
	for name, data := range map[string][]byte{
		entriesDir + "/a/boot.cfg": []byte("if then ( $$$ '" + strings.Repeat("}", 200)),
		entriesDir + "/b/boot.cfg": entry(t, updater.B),
	} {
		if err := im.Write(name, 0, data); err != nil {
			t.Fatal(err)
		}
	}
	m.reset()
	if tr := m.await(""); !strings.Contains(tr.cmdline, "evenkeel.slot=b") {
		t.Errorf("it boots %q, want slot b", tr.cmdline)
	}
}

// TestRealGRUBWithoutScript: not even without grub.cfg does it wait for a person.
func TestRealGRUBWithoutScript(t *testing.T) {
	needFirmware(t)
	files := realFiles(t)
	delete(files, "/efi/evenkeel/grub.cfg")
	m := powerOn(t, newImage(t, files), "")
	for range 2 {
		m.await("cannot read (hd0,gpt1)/evenkeel/grub.cfg, rebooting")
	}
}
