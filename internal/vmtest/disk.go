package vmtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/evenkeel-os/evenkeel/bootloader"
	"github.com/evenkeel-os/evenkeel/internal/durable"
	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/updater"
)

// Disk reads what lies on a machine's disk, from outside, with our own codecs, and lets the tools that everybody uses judge
// it. What a running machine has not written yet it does not see.
type Disk struct {
	Path  string
	parts map[string]extent // by GPT label
}

type extent struct{ off, size int64 }

// OpenDisk reads the partition table.
func OpenDisk(path string) (*Disk, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	table, err := gpt.Read(file.New(f, true), 512, 512)
	if err != nil {
		return nil, fmt.Errorf("cannot read the partition table of %s: %w", path, err)
	}
	d := &Disk{Path: path, parts: map[string]extent{}}
	for _, p := range table.Partitions {
		if p != nil && p.Name != "" {
			d.parts[p.Name] = extent{int64(p.Start) * 512, int64(p.End-p.Start+1) * 512}
		}
	}
	for _, label := range []string{"esp", "root-a", "root-b", "state"} {
		if d.parts[label].size == 0 {
			return nil, fmt.Errorf("%s has no partition labelled %s", path, label)
		}
	}
	return d, nil
}

// ESP returns a file of the EFI system partition.
func (d *Disk) ESP(name string) ([]byte, error) {
	c := exec.Command("mtype", "-i", fmt.Sprintf("%s@@%d", d.Path, d.parts["esp"].off), "::"+name)
	c.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1")
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		if strings.Contains(errs.String(), "not found") {
			err = fs.ErrNotExist
		}
		return nil, fmt.Errorf("cannot read %s from the EFI system partition of %s: %w: %s", name, d.Path, err, strings.TrimSpace(errs.String()))
	}
	return out.Bytes(), nil
}

// Put changes a file of the EFI system partition of a machine that is off.
func (d *Disk) Put(name string, data []byte) error {
	tmp := d.Path + ".put"
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		return err
	}
	defer os.Remove(tmp)
	out, err := exec.Command("mcopy", "-o", "-i", fmt.Sprintf("%s@@%d", d.Path, d.parts["esp"].off), tmp, "::"+name).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cannot write %s: %w: %s", name, err, out)
	}
	return nil
}

// espFiles gives bootloader.GRUB the EFI system partition of a disk, for reading.
type espFiles struct{ d *Disk }

func (e espFiles) Read(path string) ([]byte, error) {
	return e.d.ESP(strings.TrimPrefix(path, "/efi/"))
}

func (espFiles) Write(string, int64, []byte) error { return errReadOnly }

func (espFiles) Make(string, []byte) error { return errReadOnly }

var errReadOnly = errors.New("this disk is only looked at")

func (d *Disk) loader() (*bootloader.GRUB, error) {
	return bootloader.NewGRUB(bootloader.Options{
		Grubenv: "/efi/evenkeel/grubenv", Entries: "/efi/evenkeel", Script: bootloader.ScriptEvenkeel, Files: espFiles{d},
		PartUUID: func(updater.Slot, release.Role) (string, error) { return "00000000-0000-4000-8000-000000000000", nil },
	})
}

// State returns what the boot loader's variables say.
func (d *Disk) State() (updater.BootState, error) {
	g, err := d.loader()
	if err != nil {
		return updater.BootState{}, err
	}
	return g.State()
}

// stateFile returns a file of the state partition, or fs.ErrNotExist.
func (d *Disk) stateFile(name string) ([]byte, error) {
	return ext4File(fmt.Sprintf("%s?offset=%d", d.Path, d.parts["state"].off), name)
}

// ext4File returns a file of an ext4 file system.
func ext4File(device, name string) ([]byte, error) {
	c := exec.Command("debugfs", "-R", "cat /"+name, device)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("cannot read %s from the state partition: %w: %s", name, err, errs.Bytes())
	}
	_, complaint, _ := strings.Cut(errs.String(), "\n") // the first line is debugfs's version
	if strings.Contains(complaint, "File not found") {
		return nil, fmt.Errorf("%s on the state partition: %w", name, fs.ErrNotExist)
	}
	if complaint = strings.TrimSpace(complaint); complaint != "" {
		return nil, fmt.Errorf("cannot read %s from the state partition: %s", name, complaint)
	}
	return out.Bytes(), nil
}

// Record returns what the agent last saved; the zero Record if it never did.
func (d *Disk) Record() (updater.Record, error) { return readRecord(d.stateFile("record")) }

func readRecord(data []byte, err error) (updater.Record, error) {
	if errors.Is(err, fs.ErrNotExist) {
		return updater.Record{}, nil
	}
	if err != nil {
		return updater.Record{}, err
	}
	mem := durable.NewMemory()
	f, err := mem.Create("record")
	if err == nil {
		_, err = f.WriteAt(data, 0)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return updater.Record{}, err
	}
	value, err := durable.NewCell(mem, "record").Load()
	if err != nil || value == nil {
		return updater.Record{}, err
	}
	return updater.DecodeRecord(value, 1000)
}

// Holds says whether a slot holds exactly the images of a release: an error says what is different.
func (d *Disk) Holds(s updater.Slot, rel release.Release) error {
	for _, im := range rel.Images {
		got, err := d.digest(s, im)
		if err != nil {
			return err
		}
		if got != im.SHA256 {
			return fmt.Errorf("%s of slot %s is not that of release %s: its SHA-256 is %s", im.Role, s, rel.Version, hex.EncodeToString(got[:8]))
		}
	}
	return nil
}

func (d *Disk) digest(s updater.Slot, im release.Image) (release.Digest, error) {
	if im.Kind == release.KindFile {
		data, err := d.ESP("evenkeel/" + string(s) + "/" + im.Name)
		return release.Digest(sha256.Sum256(data)), err
	}
	f, err := os.Open(d.Path)
	if err != nil {
		return release.Digest{}, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, io.NewSectionReader(f, d.parts[string(im.Role)+"-"+string(s)].off, im.Size))
	return release.Digest(h.Sum(nil)), err
}

// Fsck lets sgdisk, fsck.vfat and e2fsck judge the disk of a machine that is off. The journal of the state partition is
// replayed first, as mounting it does; everything happens on copies. It returns the record as an agent would find it.
func (d *Disk) Fsck() (updater.Record, error) {
	none := updater.Record{}
	if out, err := exec.Command("sgdisk", "-v", d.Path).CombinedOutput(); err != nil || !bytes.Contains(out, []byte("No problems found")) {
		return none, fmt.Errorf("sgdisk: %w: %s", errOr(err), out)
	}
	if err := d.fsckESP(); err != nil {
		return none, err
	}
	state, err := d.copyOut("state")
	if err != nil {
		return none, err
	}
	defer os.Remove(state)
	if out, err := exec.Command("e2fsck", "-y", "-E", "journal_only", state).CombinedOutput(); err != nil && exitCode(err) > 1 {
		return none, fmt.Errorf("e2fsck: %w: %s", err, out)
	}
	if out, err := exec.Command("e2fsck", "-f", "-n", state).CombinedOutput(); err != nil {
		return none, fmt.Errorf("e2fsck: %w: %s", err, out)
	}
	return readRecord(ext4File(state, "record"))
}

// fsckESP repairs a copy of the EFI system partition, as the appliance does at boot. FAT has no journal: a cut while a
// kernel is written can leave half a file behind. Nothing that the firmware may choose can be hit by that.
func (d *Disk) fsckESP() error {
	esp, err := d.copyOut("esp")
	if err != nil {
		return err
	}
	defer os.Remove(esp)
	if out, err := exec.Command("fsck.vfat", "-a", esp).CombinedOutput(); err != nil && exitCode(err) != 1 {
		return fmt.Errorf("fsck.vfat: %w: %s", err, out)
	}
	if out, err := exec.Command("fsck.vfat", "-n", esp).CombinedOutput(); err != nil && !onlyDirty(string(out)) {
		return fmt.Errorf("fsck.vfat, after it has repaired: %w: %s", err, out)
	}
	st, err := d.State()
	if err != nil {
		return err
	}
	repaired := &Disk{Path: esp, parts: map[string]extent{"esp": {}}}
	for _, name := range vital(st) {
		before, err1 := d.ESP("evenkeel/" + name)
		after, err2 := repaired.ESP("evenkeel/" + name)
		if err1 != nil || err2 != nil || !bytes.Equal(before, after) {
			return fmt.Errorf("%s is not the same after fsck.vfat: %w", name, errors.Join(err1, err2))
		}
	}
	return nil
}

// vital are the files without which the firmware cannot start what it may choose.
func vital(st updater.BootState) []string {
	names := []string{"grubenv", "grub.cfg", "a/boot.cfg", "b/boot.cfg"}
	for _, s := range []updater.Slot{updater.A, updater.B} {
		if st.Enabled(s) {
			names = append(names, string(s)+"/vmlinuz", string(s)+"/initrd.img")
		}
	}
	return names
}

// harmless are the lines of fsck.vfat about a file system that is mounted, or was cut off: the dirty bit (byte 65 of the boot
// sector), which its backup does not have, and the count of free clusters, which is only a hint.
var harmless = regexp.MustCompile(`^(|fsck\.fat .*|There are differences between boot sector and its backup\.|This is mostly harmless\. Differences: .*|65:01/00|` + //nolint:gochecknoglobals // a constant
	`Not automatically fixing this\.|Dirty bit is set\..*|Automatically removing dirty bit\.|Free cluster summary wrong .*|Auto-correcting\.|` +
	`\*\*\* Filesystem was changed \*\*\*|Leaving filesystem unchanged\.|.*: \d+ files, \d+/\d+ clusters)$`)

// onlyDirty reports whether fsck.vfat found nothing else.
func onlyDirty(out string) bool {
	for line := range strings.Lines(out) {
		if !harmless.MatchString(strings.TrimSpace(line)) {
			return false
		}
	}
	return true
}

func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

func errOr(err error) error {
	if err == nil {
		return errors.New("it complains")
	}
	return err
}

// copyOut copies a partition to a file beside the disk.
func (d *Disk) copyOut(label string) (string, error) {
	in, err := os.Open(d.Path)
	if err != nil {
		return "", err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(d.Path), label+"-")
	if err != nil {
		return "", err
	}
	e := d.parts[label]
	_, err = io.Copy(out, io.NewSectionReader(in, e.off, e.size))
	return out.Name(), errors.Join(err, out.Close())
}

// ReadRelease returns a release as the signed target file in a repository's directory says.
func ReadRelease(repo string, r Release) (release.Release, error) {
	files, err := filepath.Glob(filepath.Join(repo, "repo/targets/releases", or(r.Product, Product), "*.json"))
	if err != nil {
		return release.Release{}, err
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return release.Release{}, err
		}
		var rel release.Release
		if json.Unmarshal(data, &rel) == nil && rel.Serial == r.Serial {
			return rel, nil
		}
	}
	return release.Release{}, fmt.Errorf("%s holds no release with serial %d", repo, r.Serial)
}
