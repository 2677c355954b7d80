package host

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/evenkeel-os/evenkeel/updater"
)

// traces is what a boot can leave outside the slots.
type traces struct {
	note    *Note
	dumps   []dumpPart
	dog     string // the watchdog that says it reset the machine
	power   string // why the platform says that power failed
	powered string // the platform says that it was switched on, which after a clean end is no failure
}

func (h *Host) traces() traces {
	t := traces{dumps: h.findDumps()}
	if n, err := readNote(h.o.FS, h.o.StateDir); err == nil {
		t.note = &n
	}
	t.readWatchdogs(h.path("sys/class/watchdog"))
	t.readPowerOn(h.path("sys/devices/platform"))
	return t
}

// Bits of the watchdog API (linux/watchdog.h).
const (
	wdPowerUnder = 0x10
	wdCardReset  = 0x20
	wdPowerOver  = 0x40
)

// readWatchdogs reads what each watchdog says of the last reset. Drivers clear it in the hardware when they are loaded, so
// it is about the boot right before this one.
func (t *traces) readWatchdogs(class string) {
	files, _ := filepath.Glob(filepath.Join(class, "watchdog*", "bootstatus"))
	for _, f := range files {
		bits, err := strconv.ParseUint(readLine(f), 0, 32)
		if err != nil {
			continue
		}
		name := filepath.Base(filepath.Dir(f))
		if id := readLine(filepath.Join(filepath.Dir(f), "identity")); id != "" {
			name += " (" + id + ")"
		}
		if bits&wdCardReset != 0 {
			t.dog = name
		}
		if bits&(wdPowerUnder|wdPowerOver) != 0 {
			t.power = name + " says that the power was bad"
		}
	}
}

// readPowerOn reads the attribute of sysfs-platform-power-on-reason. What it says is a fixed list, linux/power/power_on_reason.h.
func (t *traces) readPowerOn(platform string) {
	var files []string
	for _, depth := range []string{"*", "*/*", "*/*/*", "*/*/*/*"} {
		found, _ := filepath.Glob(filepath.Join(platform, depth, "power_on_reason"))
		files = append(files, found...)
	}
	for _, f := range files {
		switch why := readLine(f); why {
		case "watchdog timeout":
			t.dog = "the platform's watchdog"
		case "brown-out reset":
			t.power = "the platform says " + strconv.Quote(why)
		case "regular power-up":
			t.powered = "the platform says " + strconv.Quote(why)
		}
	}
}

func readLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil || len(b) > 4096 {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// ids names the traces of earlier boots than id that stay where they are, so that a later boot knows them again.
func (t traces) ids(id string) []string {
	ids := t.panics()
	if t.note != nil && t.note.Boot != id {
		ids = append(ids, t.note.id())
	}
	return ids
}

func (t traces) panics() (ids []string) {
	for _, d := range t.dumps {
		ids = append(ids, d.id)
	}
	return ids
}

// judge says why the boot before id ended. previous is the last boot that got as far as Begin, nil if none is known; what
// is in old was seen before that one ended.
func (t traces) judge(id string, previous *bootEnd, old []string) updater.Reset {
	fresh := slices.DeleteFunc(slices.Clone(t.dumps), func(d dumpPart) bool { return slices.Contains(old, d.id) })
	if n := t.note; n != nil && n.Boot != id && !slices.Contains(old, n.id()) {
		return updater.Reset{Cause: updater.CauseDeadline, Slot: n.Slot, Detail: clipped(n.Why)}
	}
	if r, ok := panicked(fresh); ok {
		return blame(previous, r)
	}
	inOrder := previous != nil && previous.Ended != ""
	switch {
	case t.dog != "":
		return blame(previous, updater.Reset{Cause: updater.CauseWatchdog, Detail: t.dog + " says that it reset the machine"})
	case t.power != "":
		return blame(previous, updater.Reset{Cause: updater.CausePower, Detail: t.power})
	case t.powered != "" && previous != nil && !inOrder:
		return blame(previous, updater.Reset{Cause: updater.CausePower, Detail: t.powered + ", and it did not shut down in order"})
	case inOrder:
		return updater.Reset{Cause: updater.CauseReboot, Slot: previous.Slot, Detail: previous.String()}
	}
	return blame(previous, updater.Reset{Cause: updater.CauseUnknown, Detail: previous.String()})
}

// blame names the slot of the last boot that is known, if it may be the one that ended so. One that ended in order is not:
// the trace is of a boot after it, which never got as far as Begin.
func blame(previous *bootEnd, r updater.Reset) updater.Reset {
	if r.Slot == updater.NoSlot && previous != nil && previous.Ended == "" {
		r.Slot = previous.Slot
	}
	return r
}

// Note is deadline.json: the deadline unit's last words.
type Note struct {
	Slot updater.Slot `json:"slot"`
	Boot string       `json:"boot"`
	Why  string       `json:"why"` // for people
	// Unsure: it could not find out whether the slot was on trial.
	Unsure bool `json:"unsure,omitempty"`
	// Times is how many boots in a row ended so, when it was unsure. 0: one.
	Times int `json:"times,omitempty"`
}

func (n Note) id() string { return "note:" + n.Boot }

func notePath(state string) string { return filepath.Join(state, "deadline.json") }

type reader interface {
	ReadFile(name string) ([]byte, error)
}

func readNote(fsys reader, state string) (Note, error) {
	data, err := fsys.ReadFile(notePath(state))
	if err != nil {
		return Note{}, err
	}
	return parseNote(data)
}

func parseNote(data []byte) (n Note, err error) {
	if err := json.Unmarshal(data, &n); err != nil {
		return Note{}, fmt.Errorf("cannot read the deadline unit's note: %w", err)
	}
	if n.Boot == "" || len(n.Boot) > 64 || !isSlot(n.Slot) {
		return Note{}, fmt.Errorf("cannot read the deadline unit's note: it is about boot %.80q of slot %.80q", n.Boot, n.Slot)
	}
	return n, nil
}
