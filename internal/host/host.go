package host

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/evenkeel-os/evenkeel/internal/durable"
	"github.com/evenkeel-os/evenkeel/updater"
)

// Options describe the host.
type Options struct {
	Root     string     // what everything of the host is read below; "/" on a real host
	StateDir string     // state directory, as the agent opens it (Root is not put before it)
	RunDir   string     // directory for what a reboot forgets; "": run/evenkeel below Root
	FS       durable.FS // that StateDir is on; nil: the real one
	// Rebooter carries out Reboot.
	Rebooter *Rebooter
	// OnError hears of what went wrong and changed nothing that matters: a mark that could not be written. May be nil.
	OnError func(error)
}

// Host implements updater.Host. Its methods may be called from several goroutines.
type Host struct {
	o  Options
	mu sync.Mutex
}

var _ updater.Host = (*Host)(nil)

// New returns the host that o describes. It touches nothing.
func New(o Options) *Host {
	if o.FS == nil {
		o.FS = durable.OS{}
	}
	if o.OnError == nil {
		o.OnError = func(error) {}
	}
	if o.Root == "" {
		o.Root = "/"
	}
	if o.RunDir == "" {
		o.RunDir = filepath.Join(o.Root, "run/evenkeel")
	}
	return &Host{o: o}
}

func (h *Host) path(rel string) string { return filepath.Join(h.o.Root, rel) }

// Boot implements updater.Host. It changes nothing, so it may be called without any lock and by anybody who may read.
func (h *Host) Boot() (b updater.Boot, err error) {
	if b.ID, err = BootID(h.o.Root); err != nil {
		return b, err
	}
	if b.Uptime, err = Uptime(h.o.Root); err != nil {
		return b, err
	}
	if b.Running, err = h.Running(); err != nil {
		return b, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	b.Reset = h.present(b.ID).Reset
	return b, nil
}

// Slot returns the slot that the kernel's command line names, or NoSlot, also where it names both. It is what evidence is filed under; whether the
// command line tells the truth is for others to find out (partitions.Slots.Running).
func Slot(root string) updater.Slot {
	line, err := os.ReadFile(filepath.Join(root, "proc/cmdline"))
	if err != nil {
		return updater.NoSlot
	}
	return slotIn(string(line))
}

// BootID returns the kernel's name of this boot.
func BootID(root string) (string, error) {
	b, err := os.ReadFile(filepath.Join(root, "proc/sys/kernel/random/boot_id"))
	if err != nil {
		return "", fmt.Errorf("cannot tell which boot this is: %w", err)
	}
	id := strings.TrimSpace(string(b))
	if id == "" || len(id) > 64 || strings.ContainsAny(id, " \t\n\x00") {
		return "", fmt.Errorf("cannot tell which boot this is: boot_id says %.80q", id)
	}
	return id, nil
}

// Uptime returns how long ago the kernel started. It does not go back, whatever becomes of the clock.
func Uptime(root string) (time.Duration, error) {
	b, err := os.ReadFile(filepath.Join(root, "proc/uptime"))
	if err != nil {
		return 0, fmt.Errorf("cannot tell the uptime: %w", err)
	}
	return parseUptime(string(b))
}

func parseUptime(s string) (time.Duration, error) {
	first, _, _ := strings.Cut(strings.TrimSpace(s), " ")
	sec, err := strconv.ParseFloat(first, 64)
	if err != nil || !(sec >= 0 && sec < math.MaxInt64/1e9) {
		return 0, fmt.Errorf("cannot tell the uptime: /proc/uptime says %.80q", s)
	}
	return time.Duration(sec * float64(time.Second)), nil
}
