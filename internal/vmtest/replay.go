package vmtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/updater"
)

// Replayed says how many power cuts are made from the write log of a whole update, from the first boot of the old release
// to the end of the new one's first.
type Replayed struct {
	Looked int // cuts in each stretch between two marks, whose disks are looked at
	Booted int // stretches of which one cut's disk is really booted, each another; negative: all
}

// mark is how many writes there were when the machine had come so far.
type mark struct {
	name    string
	entries int
}

// marks are lines of the console, in the order of an update. Between staging and staged the slot is written.
var marks = regexp.MustCompile(`^evenkeel: booting slot [ab]|\b(staging|staged|armed|trial|healthy|confirmed): |\btry release `) //nolint:gochecknoglobals // a constant

// note keeps a mark; it is called for each line of the console.
func (x *run) note(line string) {
	name := marks.FindString(line)
	if x.machine.WriteLog == "" || name == "" {
		return
	}
	n, err := Entries(x.machine.WriteLog)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.err = errors.Join(x.err, err)
	x.marks = append(x.marks, mark{name, n})
}

// logWrites lets the machine be watched, and keeps its disk as it is now.
func (x *run) logWrites(ctx context.Context) error {
	x.machine.WriteLog = filepath.Join(x.dir, "writes")
	if err := os.WriteFile(x.machine.WriteLog, nil, 0o644); err != nil {
		return err
	}
	return copySparse(ctx, x.disk.Path, x.before())
}

func (x *run) before() string { return filepath.Join(x.dir, "before.img") }

func copySparse(ctx context.Context, from, to string) error {
	if out, err := exec.CommandContext(ctx, "cp", "--reflink=auto", "--sparse=always", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("cp: %w: %s", err, out)
	}
	return nil
}

// replay makes the disks of many power cuts, looks at each, and boots some.
func (x *run) replay(ctx context.Context) error {
	l, err := OpenWriteLog(x.machine.WriteLog)
	if err != nil {
		return err
	}
	defer l.Close()
	f, err := os.OpenFile(x.before(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	rng := rand.New(rand.NewPCG(x.Seed, 0))
	cuts := x.plan(l.Len(), rng)
	x.Say("%s: %d writes and flushes, %d power cuts, seed %d", x.s.Name, l.Len(), len(cuts), x.Seed)
	r, disk := NewReplay(l, f), &Disk{Path: x.before(), parts: x.disk.parts}
	var boot []string
	for _, c := range cuts {
		undo, err := r.CutAfter(c.entry, rng)
		if err != nil {
			return err
		}
		if err := x.mayBeLeft(disk); err != nil {
			return fmt.Errorf("cut after entry %d, behind %q: %w", c.entry, c.behind, err)
		}
		if c.boot {
			image := filepath.Join(x.dir, fmt.Sprintf("cut-%d.img", c.entry))
			if err := copySparse(ctx, x.before(), image); err != nil {
				return err
			}
			boot = append(boot, image)
			x.Say("%s: the disk of the cut after entry %d, behind %q, is going to be booted", x.s.Name, c.entry, c.behind)
		}
		if err := undo(); err != nil {
			return err
		}
	}
	for _, image := range boot {
		if err := x.patiently(ctx, func(ctx context.Context) error { return x.bootCut(ctx, image) }); err != nil {
			return fmt.Errorf("%s, really booted: %w", filepath.Base(image), err)
		}
	}
	return nil
}

type powerCut struct {
	entry  int
	behind string // the mark before it
	boot   bool
}

// plan chooses where power is cut: in each stretch between two marks, at its ends and wherever rng says.
func (x *run) plan(n int, rng *rand.Rand) []powerCut {
	all := append(slices.Clone(x.marks), mark{"the end", n})
	stretches := rng.Perm(len(all) - 1)
	booted := x.s.Replay.Booted
	if booted < 0 {
		booted = len(stretches)
	}
	var cuts []powerCut
	for i, m := range all[:len(all)-1] {
		width := all[i+1].entries - m.entries
		at := map[int]bool{m.entries: true}
		for range x.s.Replay.Looked {
			at[m.entries+rng.IntN(width+1)] = true
		}
		chosen := slices.Index(stretches, i) < booted
		entries := sortedKeys(at)
		pick := rng.IntN(len(entries))
		for j, e := range entries {
			cuts = append(cuts, powerCut{e, m.name, chosen && j == pick})
		}
	}
	slices.SortStableFunc(cuts, func(a, b powerCut) int { return a.entry - b.entry })
	return cuts
}

func sortedKeys(m map[int]bool) []int {
	var keys []int
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// mayBeLeft looks at a disk: whatever the firmware may choose holds a whole release, the file systems are sound, and no slot
// is the default that was not confirmed.
func (x *run) mayBeLeft(d *Disk) error {
	rec, err := d.Fsck()
	if err != nil {
		return err
	}
	g, err := d.loader()
	if err != nil {
		return err
	}
	if problems := g.Check(); len(problems) > 0 {
		return fmt.Errorf("the boot loader's files: %q", problems)
	}
	st, err := g.State()
	if err != nil {
		return err
	}
	if st.Default == updater.NoSlot {
		return fmt.Errorf("no slot is the default: %+v", st)
	}
	for _, s := range []updater.Slot{updater.A, updater.B} {
		if st.Enabled(s) {
			if err := x.holdsAny(d, s); err != nil {
				return fmt.Errorf("slot %s may be chosen (%+v): %w", s, st, err)
			}
		}
	}
	wellKnown := rec.Phase == updater.Confirming || rec.Phase == updater.Closing && rec.Txn.Outcome == updater.Confirmed ||
		rec.Phase == updater.Idle && rec.Last != nil && rec.Last.Outcome == updater.Confirmed
	if st.Default == updater.B && !wellKnown {
		return fmt.Errorf("slot b is the default, and the record says %q", rec.Phase)
	}
	return nil
}

func (x *run) holdsAny(d *Disk, s updater.Slot) error {
	var errs []error
	for _, r := range x.releases {
		rel, err := x.release(r)
		if err != nil {
			return err
		}
		if err = d.Holds(s, rel); err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (x *run) release(r Release) (release.Release, error) { return ReadRelease(x.repo, r) }

// bootCut powers a machine with this disk on. It must come up, and the update must end as if nothing had happened.
func (x *run) bootCut(ctx context.Context, image string) error {
	m := x.machine
	m.Disk, m.WriteLog, m.OnLine = image, "", func(line string) {
		if strings.HasPrefix(line, "Welcome to GRUB") {
			x.mu.Lock()
			x.booted++
			x.mu.Unlock()
		}
		if x.Console != nil {
			x.Console(x.s.Name, line)
		}
	}
	vm, err := m.PowerOn(ctx)
	if err != nil {
		return err
	}
	defer func() { vm.Cut(); x.spent += vm.Worked() }()
	last := x.releases[len(x.releases)-1]
	if _, err := vm.Expect(ctx, fmt.Sprintf(`release %s \(serial %d\) is the newest there is`, regexp.QuoteMeta(last.Version), last.Serial)); err != nil {
		lines := vm.Console()
		return fmt.Errorf("%w; the console says\n%q", err, lines[max(0, len(lines)-25):])
	}
	if err := vm.Type(ctx, "systemctl poweroff"); err != nil {
		return err
	}
	if err := vm.Off(ctx); err != nil {
		return err
	}
	y := &run{Runner: x.Runner, s: x.s, releases: x.releases, repo: x.repo, disk: &Disk{Path: image, parts: x.disk.parts}}
	if err := y.judgeDisk(); err != nil {
		return err
	}
	x.Say("%s: %s came up, and the update has ended well", x.s.Name, filepath.Base(image))
	return os.Remove(image)
}
