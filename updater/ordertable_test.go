package updater_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/updater"
)

// gap is a place between two steps where power can go, or the agent can die, and what is done about it.
type gap struct {
	edge string   // the line of the order table in docs/architecture.md
	name string   // where on it
	in   world    // the machine
	path []string // how it gets there: on until this was done; or, with "!", this happens now
	then []string // what comes next
	ends string   // where it comes to rest
}

const (
	powerCut = "!POWER CUT"
	restart  = "!the agent restarts"
)

// gaps lists every line of the order table. The texts are beginnings of what the explorer calls a step.
func gaps() []gap {
	on := func(l fixtures.LoaderKind, k fixtures.Kind, tries int, b budget) world {
		b.Cuts += 2
		asks := []updater.Intent{{Verb: updater.Cancel}, {Verb: updater.Rollback}}
		return world{Config: fixtures.Config{Loader: l, Kind: k, Tells: true, Watchdog: true}, Tries: tries, Budget: b, Asks: asks}
	}
	grub := on(fixtures.OurGRUB, fixtures.Good, 2, budget{Publish: 1, Asks: 2, Menu: 1, Fails: 1, Full: 1})
	efi := on(fixtures.EFI, fixtures.Good, 1, budget{})
	uboot := on(fixtures.UBoot, fixtures.Good, 1, budget{Die: 1, Reboots: 1})
	sick := on(fixtures.OurGRUB, fixtures.Sick, 2, budget{Menu: 1})
	deaf := on(fixtures.OurGRUB, fixtures.Good, 2, budget{})
	deaf.Deaf, deaf.NoRisk = true, true
	of := func(k fixtures.Kind) world { return on(fixtures.OurGRUB, k, 1, budget{}) }
	upInA := func(then ...string) []string { return append([]string{"firmware boots a", "agent up in a"}, then...) }
	upInB := func(then ...string) []string { return append([]string{"firmware boots b", "agent up in b"}, then...) }

	ends := func(how, then string) []string { return append([]string{"firmware boots b", how}, upInA(then)...) }

	const (
		start  = "every start"
		idle   = "Idle, running is not the default"
		stage  = "Idle to Staging"
		staged = "Staging to Staged"
		arm    = "Staged to Armed"
		armed  = "Armed, same boot"
		trial  = "Armed to Trial"
		left   = "Armed or Trial, the old slot runs"
		pass   = "Trial to Confirming to Closing"
		fail   = "Trial to Reverting"
		close  = "any to Closing"
		done   = "Closing to Idle"

		idled     = "SAVE(idle: release v1"
		writing   = "SAVE(staging: install release v1"
		verified  = "SAVE(staged: slot b reads back"
		wanted    = "SAVE(staged: a lease is wanted"
		attempt1  = "SAVE(staged: attempt 1"
		attempt2  = "SAVE(staged: attempt 2"
		isArmed   = "SAVE(armed"
		boot1     = "SAVE(trial: slot b runs on trial, boot 1"
		boot2     = "SAVE(trial: slot b runs on trial, boot 2"
		healthy   = "SAVE(confirming"
		confirmed = "SAVE(closing: confirmed"
		reverting = "SAVE(reverting: unhealthy: health check it failed"
		returned  = "SAVE(idle: the lease was given back"
	)
	return []gap{
		{start, "before Settle", uboot, []string{"agent up in a", powerCut}, upInA("settle", "SAVE(idle"), "v1 in b"},
		{start, "after Settle", uboot, []string{"settle", powerCut}, upInA("settle", "SAVE(idle"), "v1 in b"},

		{
			idle, "a late fallback, before its Confirm", uboot,
			[]string{returned, "!the default slot dies", "probe", powerCut},
			upInA("probe", "confirm a"), "v1 in b", // the evidence against v1 went with the power
		},
		{
			idle, "a slot that was never confirmed, from the boot menu", sick,
			[]string{idled, powerCut, "!a person picks b", "agent up in b"},
			[]string{"wait", "the deadline comes", "reboot", "firmware boots a"},
			"v0 in a",
		},

		{
			stage, "after SAVE(writing), before Disable", grub,
			[]string{returned, "!release 2", "SAVE(staging", powerCut},
			upInB("disable a", "install a"), "v2 in a",
		},
		{
			stage, "after Disable, before the first byte: it is done again", grub,
			[]string{returned, "!release 2", "disable a", powerCut},
			upInB("disable a", "install a"), "v2 in a",
		},
		{
			stage, "half an image", grub,
			[]string{writing, "disable b", "!install b POWER CUT after write 1"},
			upInA("disable b", "install b", verified), "v1 in b",
		},

		{
			stage, "all of an image, and a person picks it in the boot menu", grub,
			[]string{"install b", powerCut, "!a person picks b"},
			[]string{"agent up in b", "reboot", "firmware boots a", "agent up in a", "disable b", "install b"},
			"v1 in b",
		},

		{
			staged, "after the last byte, before SAVE(verified)", grub,
			[]string{"install b", powerCut},
			upInA("disable b", "install b", verified), "v1 in b",
		},
		{
			staged, "after SAVE(verified)", grub,
			[]string{verified, powerCut},
			upInA("ask", "refresh", "baseline", wanted), "v1 in b",
		},

		{
			arm, "after SAVE(lease wanted), before Enter", grub,
			[]string{wanted, powerCut},
			upInA("ask", "refresh", "baseline", "enter", attempt1), "v1 in b",
		},
		{
			arm, "after Enter, before SAVE(attempt)", grub,
			[]string{"enter", powerCut},
			upInA("ask", "refresh", "baseline", "enter", attempt1), "v1 in b",
		},
		{
			arm, "after SAVE(attempt), before Try", grub,
			[]string{attempt1, powerCut},
			upInA("ask", "refresh", "baseline", "enter", attempt2), "v1 in b",
		},
		{
			arm, "after SAVE(attempt), the agent dies: no attempt is spent", grub,
			[]string{attempt1, restart},
			[]string{"ask", "refresh", "baseline", "enter", "try b", isArmed},
			"v1 in b",
		},
		{arm, "after Try, before SAVE(Armed)", grub, []string{"try b", powerCut}, upInB(boot1), "v1 in b"},
		{
			arm, "after Try, the agent dies", grub,
			[]string{"try b", restart},
			[]string{"disable b", "ask", "refresh", "baseline", "enter", "try b", isArmed},
			"v1 in b",
		},
		{
			arm, "after Try, and again while the trial boots", efi,
			[]string{"try b", powerCut, "firmware boots b", "!POWER CUT while booting"},
			upInA("ask", "refresh", "baseline", "enter", attempt2), "v1 in b",
		},

		{
			armed, "after SAVE(Armed), the agent dies", uboot,
			[]string{isArmed, restart},
			[]string{"settle", "reboot", "firmware boots b"},
			"v1 in b",
		},
		{
			arm, "SAVE(Armed) fails", grub,
			[]string{"try b", "!SAVE(armed"},
			[]string{"disable b", wanted, "try b", isArmed},
			"v1 in b",
		},

		{armed, "after SAVE(Armed)", grub, []string{isArmed, powerCut}, upInB(boot1), "v1 in b"},

		{
			trial, "while the trial boots", grub,
			[]string{isArmed, "firmware boots b", "!POWER CUT while booting"},
			upInB(boot1), "v1 in b",
		},
		{
			trial, "in the trial, before SAVE(boots)", grub,
			[]string{isArmed, "agent up in b", powerCut},
			upInB(boot1), "v1 in b",
		},
		{trial, "in the trial, after SAVE(boots)", grub, []string{boot1, powerCut}, upInB(boot2, "probe"), "v1 in b"},
		{
			trial, "a loader that starts it more often than it was told", on(fixtures.RaucGRUB, fixtures.Good, 1, budget{}),
			[]string{boot1, powerCut, "firmware boots a", "!POWER CUT while booting"},
			[]string{"firmware: rescue", "a person resets", "firmware boots b", "agent up in b", "SAVE(closing: unhealthy"},
			"v0 in a",
		},

		{
			left, "never started, power was lost", efi,
			[]string{isArmed, "firmware boots b", "!POWER CUT while booting"},
			upInA("SAVE(staged: the trial of slot b ended without evidence: power", "ask"), "v1 in b",
		},
		{
			left, "it panics", of(fixtures.Dead),
			[]string{isArmed, "reboot"},
			ends("panic", "SAVE(closing: never came up: its kernel panicked"), "v0 in a",
		},
		{
			left, "it hangs", of(fixtures.Hung),
			[]string{isArmed, "reboot"},
			ends("hang, watchdog", "SAVE(closing: never came up: the hardware watchdog"), "v0 in a",
		},
		{
			left, "its agent is missing", of(fixtures.Mute),
			[]string{isArmed, "reboot"},
			ends("no agent, the deadline", "SAVE(closing: never came up: its agent did not report"), "v0 in a",
		},
		{
			left, "it cannot be loaded", of(fixtures.Unloadable),
			[]string{isArmed, "reboot"},
			ends("not loadable", "SAVE(closing: never came up: the boot loader could not load it"), "v0 in a",
		},
		{
			left, "its agent starts and it panics", of(fixtures.Crashy),
			[]string{boot1},
			[]string{"panic", "firmware boots a", "agent up in a", "SAVE(closing: unhealthy: its kernel panicked"},
			"v0 in a",
		},
		{
			left, "started, power was lost", uboot,
			[]string{boot1, powerCut},
			upInA("settle", "SAVE(staged: the trial of slot b ended without evidence: power", "disable b", "ask"), "v1 in b",
		},
		{
			left, "evidence is read, before it is saved", of(fixtures.Dead),
			[]string{isArmed, "panic", "agent up in a", powerCut},
			upInA("SAVE(staged: the trial of slot b ended without evidence", "disable b"), "v0 in a",
		},
		{
			left, "no try was spent, once", deaf,
			[]string{isArmed, "reboot"},
			upInA("SAVE(staged: the loader did not start slot b", "disable b", "ask"), "v0 in a",
		},
		{
			left, "no try was spent, twice", deaf,
			[]string{isArmed, isArmed, "reboot"},
			upInA("SAVE(closing: interrupted: the loader did not start slot b, twice", "disable b", "SAVE(idle"), "v0 in a",
		},

		{
			pass, "after the probe, before SAVE(Confirming)", grub,
			[]string{"probe", powerCut},
			upInB(boot2, "probe", healthy), "v1 in b",
		},
		{
			pass, "SAVE(Confirming) fails until the deadline", grub,
			[]string{"probe", "!the state partition fills up"},
			[]string{healthy, healthy, "the deadline comes", "reboot"},
			"v0 in a",
		},
		{
			pass, "after SAVE(Confirming), before Confirm; the new slot boots", grub,
			[]string{healthy, powerCut},
			upInB("confirm b", confirmed), "v1 in b",
		},
		{
			pass, "after SAVE(Confirming), before Confirm; the old slot boots", efi,
			[]string{healthy, powerCut},
			upInA("SAVE(staged: slot b was left before it was confirmed", "ask"), "v1 in b",
		},
		{
			pass, "within Confirm", on(fixtures.SystemdBoot, fixtures.Good, 2, budget{}),
			[]string{healthy, "!confirm b POWER CUT after write 1"},
			upInB("confirm b", confirmed), "v1 in b",
		},
		{
			pass, "after Confirm, before SAVE(confirmed)", grub,
			[]string{"confirm b", powerCut},
			upInB("confirm b", confirmed), "v1 in b",
		},

		{
			fail, "after the probe, before SAVE(reason)", sick,
			[]string{"probe", powerCut},
			upInB(boot2, "probe", reverting), "v0 in a",
		},
		{
			fail, "it says that it is another release", on(fixtures.OurGRUB, fixtures.Mislabeled, 2, budget{}),
			[]string{boot1, powerCut},
			upInB(boot2, "SAVE(reverting: unhealthy: the image says that it is serial 19, and the release is 20", "disable b"), "v0 in a",
		},
		{
			fail, "after SAVE(reason), before Disable", sick,
			[]string{reverting, powerCut},
			upInB("disable b", "reboot", "firmware boots a", "agent up in a", "SAVE(closing: unhealthy"), "v0 in a",
		},
		{
			fail, "after Disable, before the reboot", sick,
			[]string{reverting, "disable b", powerCut},
			upInA("SAVE(closing: unhealthy", idled), "v0 in a",
		},

		{
			close, "cancelled while it is armed, before Disable", grub,
			[]string{isArmed, "!cancel", "SAVE(closing: cancelled", powerCut},
			upInB("disable b", "reboot", "firmware boots a", "agent up in a", idled), "",
		},
		{
			close, "cancelled, after Disable", grub,
			[]string{isArmed, "!cancel", "disable b", powerCut},
			upInA(idled), "",
		},
		{
			close, "an operator's rollback is called off: the other slot stays the fallback", grub,
			[]string{returned, "!rollback", isArmed, "!cancel", "SAVE(closing: cancelled", powerCut},
			upInA("confirm a", "confirm b", "reboot", "firmware boots b", "agent up in b", "SAVE(idle: release v0"), "v1 in b",
		},

		{
			done, "after SAVE(confirmed), before SAVE(Idle)", grub,
			[]string{confirmed, powerCut},
			upInB(idled, "leave", returned), "v1 in b",
		},
		{
			done, "after SAVE(unhealthy), before SAVE(Idle)", sick,
			[]string{"SAVE(closing: unhealthy", powerCut},
			upInA(idled, "leave", returned), "v0 in a",
		},
		{
			done, "after SAVE(Idle), before the lease is left", grub,
			[]string{idled, powerCut},
			upInB("leave", returned), "v1 in b",
		},
		{
			done, "after the lease was left, before that is saved", grub,
			[]string{"leave", powerCut},
			upInB("leave", returned), "v1 in b",
		},
	}
}

// TestOrderTable shows what a power cut does in each gap of the order table. TestEveryCut then does the same everywhere.
func TestOrderTable(t *testing.T) {
	for _, g := range gaps() {
		t.Run(g.edge+"/"+g.name, func(t *testing.T) {
			j := &journey{e: &explorer{w: g.in, recs: newRecords()}, s: state{M: fixtures.NewMachine(g.in.Config), Left: g.in.Budget}}
			for _, what := range g.path {
				if !j.until(what) {
					t.Fatalf("%q did not happen in %s", what, j)
				}
			}
			before := len(j.done)
			for j.step() {
			}
			then := j.done[before:]
			if len(then) < len(g.then) || !slices.EqualFunc(then[:len(g.then)], g.then, strings.HasPrefix) {
				t.Errorf("want next  %s\nin %s", strings.Join(g.then, " > "), j)
			}
			if v := j.e.final(j.s); v != "" {
				t.Errorf("%s: %s", v, j)
			}
			m := j.s.M
			if ends := fmt.Sprintf("v%d in %s", m.Rels[m.Run], slotName(m.Run)); g.ends != "" && ends != g.ends {
				t.Errorf("it ends with %s, want %s, in %s", ends, g.ends, j)
			}
		})
	}
}

// journey is one way through a world.
type journey struct {
	e    *explorer
	s    state
	done []string
}

func (j *journey) String() string { return strings.Join(j.done, " > ") }

// step does what happens when nothing interferes; false: nothing does.
func (j *journey) step() bool {
	m := j.e.moves(j.s).calm
	if m.label == "" || len(j.done) > 500 {
		return false
	}
	j.s, j.done = m.to, append(j.done, m.label)
	return true
}

// until steps until what was done, or lets it happen now.
func (j *journey) until(what string) bool {
	if now, ok := strings.CutPrefix(what, "!"); ok {
		for _, m := range j.e.moves(j.s).others {
			if strings.HasPrefix(m.label, now) {
				j.s, j.done = m.to, append(j.done, m.label)
				return true
			}
		}
		return false
	}
	for j.step() {
		if strings.HasPrefix(j.done[len(j.done)-1], what) {
			return true
		}
	}
	return false
}
