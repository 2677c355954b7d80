package updater

import (
	"context"
	"io"
	"time"

	"github.com/evenkeel-os/evenkeel/image"
	"github.com/evenkeel-os/evenkeel/release"
)

// Slot is one of the two places that an operating system can live in. Its text form is what evenkeel.slot= says on the
// kernel command line.
type Slot string

const (
	// NoSlot means "none" or "not known".
	NoSlot Slot = ""
	A      Slot = "a"
	B      Slot = "b"
)

// Other returns the slot that s is not; the other of NoSlot is NoSlot.
func (s Slot) Other() Slot {
	switch s {
	case A:
		return B
	case B:
		return A
	}
	return NoSlot
}

// Source is where releases come from. What it returns is verified: nothing of an unverified release is ever seen here.
type Source interface {
	// Refresh brings the trusted metadata up to date. On an error the metadata that was trusted before stays in force.
	Refresh(ctx context.Context) error
	// Offers returns every release that the trusted metadata names for this product, withdrawn ones included, in
	// ascending order of serial. It does not decide which may be installed; but beside an error, as when the metadata has
	// expired, they are only to be shown.
	Offers(ctx context.Context) ([]release.Release, error)
	// Open returns the verified index of one image of a release, its pack, and the deltas that may exist for it.
	Open(ctx context.Context, im release.Image) (*image.Index, image.Blob, []image.DeltaRef, error)
}

// Slots gives access to the disk. Implementations refuse to hand out a Target of the running slot, of anything that is
// mounted, or that is too small.
type Slots interface {
	// Running returns the slot that the system was booted from. The command line and the device under / must agree;
	// where they do not, it returns an error and nobody may write or confirm anything.
	Running() (Slot, error)
	// Base opens the image of a role in a slot for reading, as the source of copies. The caller closes it.
	Base(s Slot, im release.Image) (ReaderAtCloser, error)
	// Target opens the place of an image in a slot for writing. The caller closes it.
	Target(s Slot, im release.Image) (TargetCloser, error)
}

// ReaderAtCloser is an io.ReaderAt that holds a device open.
type ReaderAtCloser interface {
	io.ReaderAt
	io.Closer
}

// TargetCloser is an image.Target that holds a device open.
type TargetCloser interface {
	image.Target
	io.Closer
}

// Bootloader is one boot loader behind four verbs (State, Disable, Try, Confirm) and Settle. Every verb is idempotent,
// durable when it returns nil (fsynced and read back through the path that the firmware reads), and leaves everything
// that is not its business as it was. A verb that returns an error may have happened or not; the caller looks at State.
type Bootloader interface {
	// Caps says what this loader can promise. It is constant.
	Caps() Caps
	// State reads what the firmware would read at the next boot.
	State() (BootState, error)
	// Disable makes s unbootable: the firmware may not choose it, however often it boots. It refuses the default slot
	// and the last enabled one with an error that is a bug of the caller.
	Disable(s Slot) error
	// Try arms a trial: the next boots start s, at most tries times, and then the default slot. The boot entry of s is
	// written from spec first, while s cannot be chosen. It returns how to reboot.
	Try(s Slot, spec release.BootSpec, tries int) (Reboot, error)
	// Confirm makes s the default slot whatever came before, ends every trial, and keeps the other slot enabled if it was.
	Confirm(s Slot) error
	// Settle restores the boot counter of the default slot, where the firmware spends it on every boot
	// (Caps.CountsDefault). It touches nothing else, above all no evidence of a trial. Elsewhere it does nothing.
	Settle() error
}

// Caps says what a boot loader can promise. A false field weakens an invariant in the way its comment says.
type Caps struct {
	MaxTries        int  // most tries that Try accepts; at least 1
	CountsDefault   bool // boots of the default slot are counted too: Settle must run at every start
	AtomicWrite     bool // a power cut during a verb leaves the state before or after it, nothing between
	SafeWhenFailing bool // a firmware that cannot write its counters boots the default, not the trial, for ever
	AlwaysBoots     bool // no single power cut, at any moment, can end in a rescue prompt
	NotesLoadError  bool // the loader records that it could not load the trial slot's kernel
}

// BootState is what the firmware will do, as far as its variables tell.
type BootState struct {
	// Default is the slot that boots once the trial slot is out of tries. NoSlot: the variables name none, for they are
	// damaged; the firmware then falls back to something of its own.
	Default Slot
	// Trial is the armed or running trial; its zero value means that there is none. A trial that is out of tries is
	// still reported, with TriesLeft 0, where the loader's variables can tell it.
	Trial Trial
	// EnabledA and EnabledB: the firmware may choose the slot, as default, trial or fallback.
	EnabledA, EnabledB bool
}

// Enabled reports whether the firmware may choose s.
func (b BootState) Enabled(s Slot) bool { return s == A && b.EnabledA || s == B && b.EnabledB }

// Trial is a trial boot as the loader's variables show it.
type Trial struct {
	Slot      Slot
	TriesLeft int
	LoadError bool // the loader noted that it could not load the slot (Caps.NotesLoadError)
}

// Reboot says how to reboot into the trial. The zero value is an ordinary reboot.
type Reboot struct {
	Arg string `json:"arg,omitempty"` // argument of the reboot system call (LINUX_REBOOT_CMD_RESTART2)
}

// Gate decides when a host may go on. Its answer can delay, never force.
type Gate interface {
	Decide(ctx context.Context, ask Ask) (Verdict, error)
	// Enter takes what the gate counts (a lease) before a trial. It is called again after a restart, with the same
	// transaction, and then returns the same lease. Entering what cannot be entered now is an error.
	Enter(ctx context.Context, t Txn) (Lease, error)
	// Leave gives the lease back with the outcome. Leaving a lease that is not held is a success.
	Leave(ctx context.Context, l Lease) error
}

// Ask is a question to a Gate.
type Ask struct {
	Stage   Stage
	Release release.Release
	By      string // who wants it: "agent" or "operator"
}

// Stage is what a Gate is asked for.
type Stage string

const (
	Fetch   Stage = "fetch" // look for releases
	Install Stage = "stage" // write the inactive slot
	Arm     Stage = "arm"   // try it, which reboots
)

// Verdict is a Gate's answer.
type Verdict struct {
	Open       bool      `json:"open"`
	Reason     string    `json:"reason,omitempty"`     // one sentence for a person
	NotBefore  time.Time `json:"not_before,omitzero"`  // closed at least until then; zero: not known
	NextChange time.Time `json:"next_change,omitzero"` // when to ask again at the latest
}

// Lease is what Enter took. It is kept in the record until Leave succeeds.
type Lease struct {
	Txn     uint64  `json:"txn"`
	Token   string  `json:"token,omitempty"`
	Version string  `json:"version,omitempty"`
	Outcome Outcome `json:"outcome,omitempty"`

	extra extra
}

// Prober asks the running system whether it is well.
type Prober interface {
	// Probe runs every check. An error means that it could not probe, never that the system is sick.
	Probe(ctx context.Context) (Report, error)
	// Baseline notes, on the slot that is about to be left, what works there now, so that Probe in the new slot can
	// tell "fails" from "fails, but it used to work".
	Baseline(ctx context.Context) error
}

// Report is the result of all health checks.
type Report struct {
	Healthy bool    `json:"healthy"`
	Checks  []Check `json:"checks,omitempty"`
}

// Check is the result of one health check.
type Check struct {
	Name     string        `json:"name"`
	Required bool          `json:"required"` // a wanted check that fails is reported and does not count
	OK       bool          `json:"ok"`
	Output   string        `json:"output,omitempty"` // last lines of what it printed, bounded
	Took     time.Duration `json:"took"`
}

// Host is the machine under the agent.
type Host interface {
	// Boot says which boot this is. Its ID differs at every boot of the kernel.
	Boot() (Boot, error)
	// Reboot asks for a reboot and returns; the process is ended by it.
	Reboot(ctx context.Context, r Reboot) error
}

// Boot is what is known about the present boot.
type Boot struct {
	ID      string
	Uptime  time.Duration // monotonic, since the kernel started
	Reset   Reset
	Running Running
}

// Running is what the running slot says about itself (its os-release), not what the record says.
type Running struct {
	Version string `json:"version"`
	Serial  uint64 `json:"serial"`
}

// Reset is why the previous boot ended, as far as it can be known.
type Reset struct {
	Cause  Cause  `json:"cause"`
	Slot   Slot   `json:"slot,omitempty"`   // the slot that was running then, where the evidence says
	Detail string `json:"detail,omitempty"` // for people: last lines of the panic, what the note said
}

// Cause is why a boot ended.
type Cause string

const (
	CauseUnknown  Cause = "unknown"
	CausePower    Cause = "power"    // power was lost
	CausePanic    Cause = "panic"    // the kernel left a panic in pstore
	CauseWatchdog Cause = "watchdog" // the hardware watchdog fired
	CauseDeadline Cause = "deadline" // the deadline unit rebooted: the agent did not report in time
	CauseReboot   Cause = "reboot"   // an orderly reboot
)

// Store keeps the record. Save is atomic and durable: after a power cut at any moment Load returns the old bytes or
// the new ones. Load returns nil bytes when nothing was ever saved.
type Store interface {
	Load() ([]byte, error)
	Save([]byte) error
	// Aside keeps a copy of unreadable bytes for a person to look at.
	Aside([]byte) error
}

// Installer brings one release into a slot: fetch, verify, write, sync, re-read, verify again.
type Installer interface {
	// Install returns nil only when every image of rel, read back from the device, is what its signed index says.
	// What is right already is not written again, so that calling it again resumes.
	Install(ctx context.Context, s Slot, rel release.Release) error
	// Check verifies that the boot files of s are what rel says, before an operator's rollback tries it.
	Check(ctx context.Context, s Slot, rel SlotRecord) error
}
