package updater_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/updater"
)

// decision is Next, or a mutant of it.
type decision func(updater.Record, updater.View) updater.Step

// mutant is one way to get the state machine wrong, and the violation by which a world finds it.
type mutant struct {
	name   string
	world  world
	decide decision
	twin   func(*fixtures.Config) // a mutant of the machine instead
	caught string
}

func mutants() []mutant {
	at := func(l fixtures.LoaderKind, k fixtures.Kind, b budget) world {
		return world{Config: fixtures.Config{Loader: l, Kind: k, Tells: true, Watchdog: true}, Tries: min(2, l.Caps().MaxTries), Budget: b}
	}
	grub := func(k fixtures.Kind, b budget) world { return at(fixtures.OurGRUB, k, b) }
	return []mutant{
		{
			name: "no Disable before overwriting", world: grub(fixtures.Good, budget{Publish: 1}), decide: noDisable,
			caught: "a slot is written that the firmware may choose",
		},
		{
			name: "no Disable where the variables need none", world: grub(fixtures.Good, budget{Cuts: 1, Publish: 1}), decide: entryLeft,
			caught: "a slot is written whose boot entry is whole",
		},
		{
			name: "the first byte before SAVE(writing)", world: grub(fixtures.Good, budget{Cuts: 1}), decide: writeFirst,
			caught: "a slot is written that the record does not call writing",
		},
		{
			name: "confirmed is saved before Confirm", world: grub(fixtures.Good, budget{Cuts: 1}), decide: savedBeforeConfirm,
			caught: "confirmed is saved before Confirm, or inferred",
		},
		{
			name: "the lease is forgotten", world: grub(fixtures.Good, budget{Cuts: 1}), decide: leaseForgotten,
			caught: "a lease is held that the record does not know",
		},
		{
			name: "the attempt is not saved before Try", world: grub(fixtures.Good, budget{}), decide: attemptNotSaved,
			caught: "Try before its attempt was saved",
		},
		{
			name: "no marker, RAUC's script", world: at(fixtures.RaucGRUB, fixtures.Dead, budget{}),
			twin: func(c *fixtures.Config) { c.NoMarker = true }, caught: "a bad image is the default",
		},
		{
			name: "no marker, U-Boot", world: at(fixtures.UBoot, fixtures.Sick, budget{}),
			twin: func(c *fixtures.Config) { c.NoMarker = true }, caught: "a bad image is the default",
		},
		{
			name: "no Retreat", world: grub(fixtures.Sick, budget{Cuts: 1}), decide: noRetreat,
			caught: "not confirmed, but the firmware may choose the new slot",
		},
		{
			name: "Confirm leaves the order as it is", world: at(fixtures.RaucGRUB, fixtures.Good, budget{Cuts: 2}),
			twin: func(c *fixtures.Config) { c.WeakBless = true }, caught: "it rests on a slot that is not the default",
		},
		{
			name: "the lease is taken before it is wanted", world: grub(fixtures.Good, budget{}), decide: leaseTakenFirst,
			caught: "a lease is held that the record does not know",
		},
		{
			name: "attempts are not bounded", world: grub(fixtures.Brown, budget{}), decide: unbounded,
			caught: "it never settles",
		},
		{
			name: "attempts are not keyed by the boot", world: grub(fixtures.Good, budget{}), decide: unkeyed,
			caught: "a good release is blocked",
		},
		{
			name: "a late fallback to a slot that was never confirmed", world: grub(fixtures.Flaky, budget{Cuts: 1, Menu: 1}), decide: anyFallback,
			caught: "Confirm of a slot that is neither on trial nor was confirmed before",
		},
		{
			name: "no Settle, RAUC's script", world: at(fixtures.RaucGRUB, fixtures.Good, budget{Reboots: 3}), decide: noSettle,
			caught: "an ordinary reboot ends in a rescue prompt",
		},
		{
			name: "no Settle, U-Boot", world: at(fixtures.UBoot, fixtures.Good, budget{Reboots: 4}), decide: noSettle,
			caught: "an ordinary reboot fell back from a good default",
		},
		{
			name: "Reverting without SAVE(reason)", world: grub(fixtures.Sick, budget{}), decide: noReason,
			caught: "Disable after a failed probe that no record knows",
		},
		{
			name: "an inferred confirmation", world: grub(fixtures.Good, budget{Cuts: 1}), decide: inferred,
			caught: "confirmed is saved before Confirm, or inferred",
		},
		{
			name: "the serial of what is on trial is not compared", world: grub(fixtures.Mislabeled, budget{}), decide: anySerial,
			caught: "a bad image is the default",
		},
		{
			name: "nobody looks before a trial", world: grub(fixtures.Good, budget{Withdraw: 1}), decide: noLook,
			caught: "Try of a release without a look whether it was withdrawn meanwhile",
		},
		{
			name: "what is withdrawn goes on", world: grub(fixtures.Good, budget{Withdraw: 1}), decide: anyOffer,
			caught: "Try of a release that is withdrawn and known to be",
		},
		{
			name: "Armed is saved before Try", world: grub(fixtures.Good, budget{}), decide: armedFirst,
			caught: "Armed is saved before Try",
		},
	}
}

// TestMutants: each mutant is caught, by the violation that is meant for it, in a world where the real code has none.
func TestMutants(t *testing.T) {
	for _, m := range mutants() {
		t.Run(m.name, func(t *testing.T) {
			if v := explore(m.world, maxStates).violations(); v != "" {
				t.Errorf("without the mutant: %s", v)
			}
			w := m.world
			w.Mutant = m.decide
			if m.twin != nil {
				m.twin(&w.Config)
			}
			e := explore(w, maxStates)
			trace, ok := e.found[m.caught]
			if !ok {
				t.Fatalf("it is not caught by %q; what was found:\n%s", m.caught, e.violations())
			}
			t.Logf("%d states; caught by %d violations, the one meant for it after %s", len(e.list), len(e.found), strings.Join(trace[1:], " > "))
		})
	}
}

func phaseOf(s updater.Step) updater.Phase {
	if s.Record == nil {
		return ""
	}
	return s.Record.Phase
}

func noDisable(r updater.Record, v updater.View) updater.Step {
	if r.Phase == updater.Staging {
		v.Session.Retired = true
		v.Loader.EnabledA, v.Loader.EnabledB, v.Loader.Trial = v.Running == updater.A, v.Running == updater.B, updater.Trial{}
	}
	return updater.Next(r, v)
}

func entryLeft(r updater.Record, v updater.View) updater.Step {
	v.Session.Retired = true
	return updater.Next(r, v)
}

func writeFirst(r updater.Record, v updater.View) updater.Step {
	s := updater.Next(r, v)
	if r.Phase == updater.Idle && phaseOf(s) == updater.Staging {
		b := s.Record.Txn.Slot
		s.Record.Slots[b] = r.Slots[b]
	}
	return s
}

func savedBeforeConfirm(r updater.Record, v updater.View) updater.Step {
	if r.Phase == updater.Confirming && v.Running == r.Txn.Slot {
		v.Session.Confirmed = true
	}
	return updater.Next(r, v)
}

func leaseForgotten(r updater.Record, v updater.View) updater.Step {
	s := updater.Next(r, v)
	if r.Phase == updater.Closing && phaseOf(s) == updater.Idle {
		s.Record.Outbox = nil
	}
	return s
}

func attemptNotSaved(r updater.Record, v updater.View) updater.Step {
	s := updater.Next(r, v)
	if r.Phase == updater.Staged && phaseOf(s) == updater.Staged && s.Record.Txn.Attempts > r.Txn.Attempts {
		return updater.Step{Do: updater.DoTry, Slot: r.Txn.Slot}
	}
	return s
}

func noRetreat(r updater.Record, v updater.View) updater.Step {
	if r.Phase == updater.Closing || r.Phase == updater.Reverting {
		t := r.Txn
		v.Loader = updater.BootState{Default: t.From, EnabledA: t.From == updater.A, EnabledB: t.From == updater.B}
	}
	return updater.Next(r, v)
}

func leaseTakenFirst(r updater.Record, v updater.View) updater.Step {
	s := updater.Next(r, v)
	if r.Phase == updater.Staged && phaseOf(s) == updater.Staged && r.Txn.Lease == nil && !v.Session.Entered {
		return updater.Step{Do: updater.DoEnter}
	}
	return s
}

func unbounded(r updater.Record, v updater.View) updater.Step {
	s := updater.Next(r, v)
	if s.Record != nil && s.Record.Txn != nil {
		s.Record.Txn.Attempts = min(s.Record.Txn.Attempts, 1)
	}
	return s
}

func unkeyed(r updater.Record, v updater.View) updater.Step {
	s := updater.Next(r, v)
	if s.Do == updater.DoEnter && r.Txn.AttemptBoot == v.Boot.ID { // an agent that was restarted counts again
		t := *r.Txn
		t.AttemptBoot = ""
		r.Txn = &t
		return updater.Step{Do: updater.DoSave, Record: &r}
	}
	return s
}

func anyFallback(r updater.Record, v updater.View) updater.Step {
	if r.Phase == updater.Idle && v.Running != v.Loader.Default {
		r.Slots = maps.Clone(r.Slots)
		sr := r.Slots[v.Running]
		sr.State = updater.SlotConfirmed
		r.Slots[v.Running] = sr
	}
	return updater.Next(r, v)
}

func noSettle(r updater.Record, v updater.View) updater.Step {
	v.Session.Settled = true
	return updater.Next(r, v)
}

func noReason(r updater.Record, v updater.View) updater.Step {
	s := updater.Next(r, v)
	if r.Phase == updater.InTrial && phaseOf(s) == updater.Reverting {
		return updater.Next(*s.Record, v)
	}
	return s
}

func inferred(r updater.Record, v updater.View) updater.Step {
	if r.Phase == updater.Confirming && v.Loader.Default == r.Txn.Slot {
		v.Running, v.Session.Confirmed = r.Txn.Slot, true
	}
	return updater.Next(r, v)
}

func anySerial(r updater.Record, v updater.View) updater.Step {
	if r.Phase == updater.InTrial {
		v.Boot.Running.Serial = r.Txn.Release.Serial
	}
	return updater.Next(r, v)
}

func noLook(r updater.Record, v updater.View) updater.Step {
	v.Session.Looked = true
	return updater.Next(r, v)
}

func anyOffer(r updater.Record, v updater.View) updater.Step {
	v.Offers.Releases = slices.Clone(v.Offers.Releases)
	for i := range v.Offers.Releases {
		v.Offers.Releases[i].Withdrawn = ""
	}
	return updater.Next(r, v)
}

func armedFirst(r updater.Record, v updater.View) updater.Step {
	s := updater.Next(r, v)
	switch {
	case r.Phase == updater.Staged && s.Do == updater.DoTry:
		v.Session.Tried = true
		return updater.Next(r, v)
	case r.Phase == updater.Armed && s.Do == updater.DoReboot && !v.Session.Tried && v.Loader.Trial.Slot != r.Txn.Slot:
		return updater.Step{Do: updater.DoTry, Slot: r.Txn.Slot}
	}
	return s
}
