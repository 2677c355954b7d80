package vmtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/evenkeel-os/evenkeel/updater"
)

// Runner plays scenarios on virtual machines.
type Runner struct {
	Workshop *Workshop
	Dir      string   // of the machines' disks, a directory for each scenario; short
	Connect  []string // program that connects its standard input and output to an address, which is added
	Patience time.Duration
	Seed     uint64 // of the power cuts
	Say      func(format string, args ...any)
	Console  func(scenario, line string) // may be nil
}

// run is one scenario on one machine.
type run struct {
	*Runner
	s        Scenario
	dir      string
	server   *Server
	machine  Machine
	vm       *VM
	disk     *Disk
	repo     string // directory of the repository that is served
	releases []Release

	mu     sync.Mutex
	trace  []Boot
	marks  []mark
	booted int           // firmware starts of replayed cuts
	spent  time.Duration // processor time of machines that are off
	err    error         // of looking at the disk
}

// Run plays s, and compares every boot with the twin's.
func (r *Runner) Run(ctx context.Context, s Scenario) error {
	x, err := r.prepare(ctx, s)
	if err != nil {
		return err
	}
	defer x.server.Close()
	defer x.off()
	if err := x.play(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, x.lastWords())
	}
	x.off()
	x.Say("%s: the emulators took %.0f s of processor time, for %d boots", x.s.Name, x.spent.Seconds(), len(x.trace)+x.booted)
	return os.RemoveAll(x.dir)
}

func (r *Runner) prepare(ctx context.Context, s Scenario) (*run, error) {
	x := &run{Runner: r, s: s, dir: filepath.Join(r.Dir, s.Name), releases: slices.Clone(s.Releases)}
	if err := os.RemoveAll(x.dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(x.dir, 0o755); err != nil {
		return nil, err
	}
	disk := filepath.Join(x.dir, "disk.img")
	if err := r.Workshop.Disk(ctx, s.Releases[0], s.Config, disk); err != nil {
		return nil, err
	}
	var err error
	if x.disk, err = OpenDisk(disk); err != nil {
		return nil, err
	}
	if err := noMenu(ctx, x.disk); err != nil {
		return nil, err
	}
	if x.repo, err = r.Workshop.Repository(ctx, x.releases...); err != nil {
		return nil, err
	}
	if x.server, err = Serve(ctx, x.repo); err != nil {
		return nil, err
	}
	x.machine = Machine{Dir: x.dir, Disk: disk, Connect: append(slices.Clone(r.Connect), x.server.Addr), OnLine: x.onLine}
	return x, nil
}

// noMenu sets evenkeel_timeout=0, as docs/bootloaders.md advises for machines with a serial line.
func noMenu(ctx context.Context, d *Disk) error {
	data, err := d.ESP("evenkeel/grubenv")
	if err != nil {
		return err
	}
	tmp := d.Path + ".grubenv"
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		return err
	}
	defer os.Remove(tmp)
	if out, err := exec.CommandContext(ctx, "grub-editenv", tmp, "set", "evenkeel_timeout=0").CombinedOutput(); err != nil {
		return fmt.Errorf("grub-editenv: %w: %s", err, out)
	}
	if data, err = os.ReadFile(tmp); err != nil {
		return err
	}
	return d.Put("evenkeel/grubenv", data)
}

// onLine notes each boot: at this moment GRUB has written its variables, and no kernel runs yet.
func (x *run) onLine(line string) {
	if x.Console != nil {
		x.Console(x.s.Name, line)
	}
	x.note(line)
	slot, ok := strings.CutPrefix(line, "evenkeel: booting slot ")
	failed := strings.HasPrefix(line, "evenkeel: noted that slot ")
	if !ok && !failed {
		return
	}
	st, err := x.disk.State()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.err = errors.Join(x.err, err)
	b := Boot{State: st}
	if ok {
		b.Slot = updater.Slot(slot[:1])
	}
	x.trace = append(x.trace, b)
	x.Say("%s: %s", x.s.Name, b)
}

func (x *run) boots() ([]Boot, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.trace), x.err
}

func (x *run) off() {
	if x.vm != nil {
		x.vm.Cut()
		x.spent += x.vm.Worked()
		x.vm = nil
	}
}

func (x *run) lastWords() string {
	if x.vm == nil {
		return ""
	}
	lines := x.vm.Console()
	return "the console's last lines:\n  " + strings.Join(lines[max(0, len(lines)-25):], "\n  ")
}

func (x *run) play(ctx context.Context) error {
	want, err := Twin(x.s)
	if err != nil {
		return err
	}
	if x.s.Replay != (Replayed{}) {
		if err := x.logWrites(ctx); err != nil {
			return err
		}
	}
	if err := x.powerOn(ctx); err != nil {
		return err
	}
	for _, a := range x.s.Acts {
		if err := x.patiently(ctx, func(ctx context.Context) error { return x.act(ctx, a) }); err != nil {
			return fmt.Errorf("%s: %w", a, err)
		}
	}
	if err := x.patiently(ctx, func(ctx context.Context) error { return x.judge(ctx, want) }); err != nil || x.s.Replay == (Replayed{}) {
		return err
	}
	return x.replay(ctx)
}

func (x *run) patiently(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, x.Patience)
	defer cancel()
	return do(ctx)
}

func (x *run) powerOn(ctx context.Context) (err error) {
	x.vm, err = x.machine.PowerOn(ctx)
	return err
}

// String says what happens.
func (a Act) String() string {
	switch {
	case a.Until != "":
		return "until it has ended: " + string(a.Until)
	case a.Cut != "":
		return "power is cut " + string(a.Cut)
	case a.Reboot:
		return "the operator reboots"
	case a.Ask != "":
		return "the operator says " + string(a.Ask)
	case a.Offer != nil:
		return "the repository offers " + a.Offer.Version
	case a.Attack != "":
		return a.Attack
	}
	return "nothing happens"
}

func (x *run) act(ctx context.Context, a Act) error {
	switch {
	case a.Until != "":
		_, err := x.vm.Expect(ctx, `\b`+string(a.Until)+`: release `)
		return err
	case a.Cut != "":
		return x.cut(ctx, a.Cut)
	case a.Reboot:
		return x.reboot(ctx)
	case a.Ask != "":
		return x.vm.Type(ctx, "evenkeel "+string(a.Ask)) // it follows what comes of it, until the machine goes down
	case a.Offer != nil:
		return x.offer(ctx, *a.Offer)
	case a.Attack != "":
		return x.attack(ctx, a.Attack)
	}
	return x.idle(ctx)
}

// reboot lets the operator reboot, and waits until the firmware has.
func (x *run) reboot(ctx context.Context) error {
	if err := x.vm.Type(ctx, "systemctl reboot"); err != nil {
		return err
	}
	_, err := x.vm.Expect(ctx, `^evenkeel: booting slot `)
	return err
}

func (x *run) ask(ctx context.Context, command string) error {
	out, status, err := x.vm.Run(ctx, command)
	if err == nil && status != 0 {
		err = fmt.Errorf("%s: exit code %d: %s", command, status, out)
	}
	return err
}

func (x *run) offer(ctx context.Context, r Release) error {
	x.releases = append(x.releases, r)
	repo, err := x.Workshop.Repository(ctx, x.releases...)
	if err != nil {
		return err
	}
	x.repo = repo
	x.server.Offer(repo)
	return nil
}

// idle looks at the repository three times; nothing may come of it, least of all a reboot.
func (x *run) idle(ctx context.Context) error {
	before, _ := x.boots()
	for range 3 {
		if err := x.ask(ctx, "until systemctl is-active --quiet evenkeel; do sleep 1; done; evenkeel check"); err != nil {
			return err
		}
	}
	st, err := x.status(ctx)
	if err != nil {
		return err
	}
	if after, _ := x.boots(); len(after) != len(before) || st.Phase != updater.Idle {
		return fmt.Errorf("something happens: phase %s, %d boots", st.Phase, len(after)-len(before))
	}
	return nil
}

// report is the part of "evenkeel status --json" that is looked at.
type report struct {
	Version string            `json:"version"`
	Running updater.Slot      `json:"running"`
	Default updater.Slot      `json:"default"`
	Phase   updater.Phase     `json:"phase"`
	Error   string            `json:"error"`
	Blocked []updater.Blocked `json:"blocked"`
	Next    struct {
		Why string `json:"why"`
	} `json:"next"`
}

func (x *run) status(ctx context.Context) (st report, err error) {
	return st, x.askJSON(ctx, "evenkeel status --json", &st)
}

func (x *run) askJSON(ctx context.Context, command string, to any) error {
	out, status, err := x.vm.Run(ctx, command)
	if err != nil {
		return err
	}
	if i := strings.IndexAny(out, "{["); status != 0 || i < 0 {
		return fmt.Errorf("%s: exit code %d: %s", command, status, out)
	} else if err := json.NewDecoder(strings.NewReader(out[i:])).Decode(to); err != nil {
		return fmt.Errorf("%s: %w: %s", command, err, out)
	}
	return nil
}
