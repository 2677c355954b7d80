package bootloader

import (
	"slices"
	"strconv"
	"strings"

	"github.com/evenkeel-os/evenkeel/bootloader/grubenv"
	"github.com/evenkeel-os/evenkeel/updater"
)

// Script names the GRUB script that reads the variables.
type Script string

const (
	// ScriptEvenkeel is our own script: see Snippet.
	ScriptEvenkeel Script = "evenkeel"
	// ScriptRAUC is contrib/grub.conf of the RAUC project, unchanged.
	ScriptRAUC Script = "rauc"
)

// maxTries is the highest count that grub.cfg knows how to lower; GRUB cannot calculate.
const maxTries = 7

// names are what the variables of this machine are called.
type names struct{ a, b string }

func (n names) of(s updater.Slot) string {
	if s == updater.B {
		return n.b
	}
	return n.a
}

// lead lists the variables that the first sector must hold, in their order there.
func (n names) lead() []string {
	return []string{
		"ORDER", n.a + "_OK", n.a + "_TRY", n.b + "_OK", n.b + "_TRY", "evenkeel_trial", "evenkeel_tries", "evenkeel_failed",
	}
}

// vars are the loader's variables as values.
type vars struct {
	order  []string // names of slots; others than ours may be among them, and are kept
	ok     map[updater.Slot]bool
	tried  map[updater.Slot]bool
	trial  updater.Slot
	tries  int
	failed updater.Slot
}

func decode(b *grubenv.Block, n names, s Script) vars {
	is := func(name, want string) bool { v, _ := b.Get(name); return v == want }
	v := vars{ok: map[updater.Slot]bool{}, tried: map[updater.Slot]bool{}}
	order, ok := b.Get("ORDER")
	if !ok && s == ScriptRAUC {
		order = n.a + " " + n.b // as the script presets it
	}
	v.order = strings.Fields(order)
	for _, s := range []updater.Slot{updater.A, updater.B} {
		v.ok[s] = is(n.of(s)+"_OK", "1")
		v.tried[s] = is(n.of(s)+"_TRY", "1")
		if is("evenkeel_trial", string(s)) {
			v.trial = s
		}
		if is("evenkeel_failed", string(s)) {
			v.failed = s
		}
	}
	tries, _ := b.Get("evenkeel_tries")
	if i, err := strconv.Atoi(tries); err == nil && 0 <= i && i <= maxTries && len(tries) == 1 {
		v.tries = i
	}
	return v
}

// encode puts v into b. GRUB moves everything behind a value that changes its length, so those that it changes itself
// have one length always.
func (v vars) encode(b *grubenv.Block, n names) error {
	bit := map[bool]string{false: "0", true: "1"}
	values := []string{
		strings.Join(v.order, " "), bit[v.ok[updater.A]], bit[v.tried[updater.A]], bit[v.ok[updater.B]], bit[v.tried[updater.B]],
		string(v.trial), strconv.Itoa(v.tries), cmpOr(string(v.failed), "-"),
	}
	for i, name := range n.lead() {
		if err := b.Set(name, values[i]); err != nil {
			return err
		}
	}
	return nil
}

func cmpOr(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// state is what the script will do with these variables.
func (v vars) state(n names, script Script) updater.BootState {
	st := updater.BootState{Default: v.fallback(n), EnabledA: v.enabled(n, updater.A), EnabledB: v.enabled(n, updater.B)}
	if v.trial == updater.NoSlot {
		return st
	}
	st.Trial = updater.Trial{Slot: v.trial, LoadError: v.failed == v.trial}
	if v.enabled(n, v.trial) && n.of(v.trial) == v.first(n) {
		st.Trial.TriesLeft = v.tries
	}
	if script == ScriptRAUC {
		st.Trial.TriesLeft = min(st.Trial.TriesLeft, 1)
		if v.tried[v.trial] {
			st.Trial.TriesLeft = 0
		}
	}
	return st
}

// fallback is the default slot: what boots once the trial is out of tries.
func (v vars) fallback(n names) updater.Slot {
	for _, name := range v.order {
		for _, s := range []updater.Slot{updater.A, updater.B} {
			if name == n.of(s) && v.ok[s] && s != v.trial {
				return s
			}
		}
	}
	return updater.NoSlot
}

// first is the first of our slots in ORDER.
func (v vars) first(n names) string {
	for _, name := range v.order {
		if name == n.a || name == n.b {
			return name
		}
	}
	return ""
}

func (v vars) enabled(n names, s updater.Slot) bool {
	return v.ok[s] && slices.Contains(v.order, n.of(s))
}

func (v *vars) remove(n names, s updater.Slot) {
	v.order = slices.DeleteFunc(v.order, func(name string) bool { return name == n.of(s) })
}

func (v *vars) toFront(n names, s updater.Slot) {
	v.remove(n, s)
	v.order = slices.Insert(v.order, 0, n.of(s))
}

func (v *vars) endTrial() { v.trial, v.tries, v.failed = updater.NoSlot, 0, updater.NoSlot }
