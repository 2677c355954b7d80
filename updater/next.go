package updater

import "time"

// View is what the agent sees: what runs, what the firmware will do, and what was asked. Together with the record it is
// everything that Next decides from.
//
// Truth order: what runs, then the firmware's variables, then the record. Within a boot, Session says what this process
// has done already; a restart of the agent forgets it, and everything is then done or seen again.
type View struct {
	Running  Slot
	Boot     Boot
	Loader   BootState
	Caps     Caps
	Offers   Offers
	Intent   Intent
	Session  Session
	Settings Settings
	Now      time.Time // for people, in what is saved; no decision depends on it
}

// Settings are the knobs of the machine. They do not change while an agent runs.
type Settings struct {
	Tries       int           // boots of one attempt; bounded by Caps.MaxTries
	MaxAttempts int           // attempts before an interrupted update is given up and blocked
	Deadline    time.Duration // uptime by which a trial must be confirmed
	AcceptRisk  bool          // arm even though the loader was never seen to count and is not safe when it cannot write
	Auto        bool          // open transactions without an operator, as the gate allows
}

// Session is what this process has done in the present phase. It is lost at a restart; nothing unsafe depends on it.
type Session struct {
	Settled   bool // the default's counter was restored, or tried to
	Retired   bool // Disable(slot) succeeded: no boot entry of it is left, whatever the variables say
	Installed bool
	Baselined bool
	Checked   bool // a rollback's boot files are as they were recorded
	Entered   bool
	Tried     bool
	Confirmed bool // Confirm(running) succeeded and was read back
	Health    Health
	Report    Report // when Health is not Unprobed
	Verdict   Verdict
	Asked     Stage  // what Verdict answers
	Left      bool   // Outbox[0] was given back, and the record does not know yet
	LeaveLate bool   // Leave failed; try again later
	Lease     Lease  // what Enter returned
	Reboot    Reboot // what Try returned
	PollDue   bool   // it is time to look for releases
	Looked    bool   // since this phase began, or tried to
	GaveUp    uint64 // serial that could not be written; left alone until the next Refresh
	Retries   int    // what failed for good in this phase: installs, checks of boot files, and Try
	Unsaved   bool   // the last Save failed
	Failed    Do     // the step before this one, if it failed
}

// Health is the verdict of the probe in this session.
type Health int

const (
	Unprobed Health = iota
	Healthy
	Sick
)

// Do is the one effect of a Step.
type Do string

const (
	DoWait     Do = "wait"     // nothing to do until something changes
	DoHalt     Do = "halt"     // something is wrong that only a person can put right; nothing is touched
	DoSave     Do = "save"     // make Step.Record the record
	DoSettle   Do = "settle"   // Bootloader.Settle
	DoDisable  Do = "disable"  // Bootloader.Disable(Slot)
	DoRefresh  Do = "refresh"  // Source.Refresh and Offers
	DoInstall  Do = "install"  // Installer.Install(Slot, Txn.Release)
	DoVerify   Do = "verify"   // Installer.Check(Slot): an operator's rollback
	DoAsk      Do = "ask"      // Gate.Decide(Stage)
	DoBaseline Do = "baseline" // Prober.Baseline
	DoEnter    Do = "enter"    // Gate.Enter
	DoLeave    Do = "leave"    // Gate.Leave(Outbox[0])
	DoTry      Do = "try"      // Bootloader.Try(Slot, Txn.Release.Boot, Txn.Tries)
	DoProbe    Do = "probe"    // Prober.Probe
	DoConfirm  Do = "confirm"  // Bootloader.Confirm(Slot)
	DoReboot   Do = "reboot"   // Host.Reboot
	DoAnswer   Do = "answer"   // the intent is answered with Why; Refused says how
)

// Step is what to do next: one effect, and why.
type Step struct {
	Do      Do
	Slot    Slot
	Stage   Stage
	Record  *Record // Save
	Event   string  // the kind of event that it means once it is done; "" for none
	Why     string  // for people: the log, "status" and "why"
	Refused bool    // the answer is that the intent was refused
	Answers bool    // Save: it also answers the intent
}

// Next decides. It is pure and total: no clock, no I/O, an answer for every record and view, and never more than one
// effect at a time, so that a power cut falls before or after it.
//
//	          newer, compatible, not blocked       re-read == signed index         gates open
//	┌──────┐ ───────────────────────▶ ┌─────────┐ ────────────────▶ ┌────────┐ ─────────────▶ ┌───────┐
//	│ Idle │                          │ Staging │                   │ Staged │ ◀─interrupted─ │ Armed │ reboot
//	└──────┘                          └─────────┘                   └────────┘                └───────┘
//	   ▲                                   │ gave up, cancelled,        │ superseded,       running==From │  │ running==Slot
//	   │                                   │ superseded                 │ withdrawn,        (never came up)│  ▼
//	   │ SAVE: outcome, blocked,           ▼                            ▼ cancelled                       │ ┌───────┐ health passed ┌────────────┐
//	   │ lease into the outbox        ┌─────────────────────────────────────────────────────────────────┐ │ │ Trial │ ────────────▶ │ Confirming │
//	   └───────────────────────────── │ Closing: confirmed | unhealthy | never came up | interrupted |   │◀┘ └───────┘               └────────────┘
//	            Retreat first, unless │          cancelled | superseded | withdrawn | gave up            │◀─── Confirm(slot) ────────────┘
//	            confirmed             └─────────────────────────────────────────────────────────────────┘
//	                                               ▲ running==From   ┌───────────┐ ◀ failed | deadline (from Trial)
//	                                               └──────────────── │ Reverting │ Retreat(slot)
//	                                                                 └───────────┘
//
// From Trial and Confirming, too, an interruption that nobody is to blame for leads back to Staged. An operator's rollback
// enters at Staged, for its slot needs no writing. A lost record (phase "") starts as Idle from what is seen.
//
// The rule behind every edge: save before destroying, save after achieving. And nobody rests with something open: an
// operator gets an answer, and after a save that failed, which may have happened all the same, the record is saved again.
func Next(r Record, v View) Step {
	s := next(r, v)
	switch {
	case s.Do != DoWait:
	case v.Intent.Verb != NoVerb:
		return refuse(s.Why)
	case v.Session.Unsaved && r.Phase != Lost:
		n := r.clone()
		return Step{Do: DoSave, Record: &n, Why: "what could not be saved may have been: save again what holds"}
	}
	return s
}

func next(r Record, v View) Step {
	if v.Caps.CountsDefault && !v.Session.Settled && v.Running == v.Loader.Default {
		return Step{Do: DoSettle, Why: "the loader counts every boot: restore the default slot's counter first of all"}
	}
	if v.Loader.Default == NoSlot && r.Slots[v.Running].State == SlotConfirmed {
		return Step{Do: DoConfirm, Slot: v.Running, Why: "the loader's variables name no default slot: repair them"}
	}
	switch r.Phase {
	case Idle:
		return idle(r, v)
	case Staging:
		return staging(r, v)
	case Staged:
		return staged(r, v)
	case Armed:
		return armed(r, v)
	case InTrial:
		return inTrial(r, v)
	case Confirming:
		return confirming(r, v)
	case Reverting:
		return reverting(r, v)
	case Closing:
		return closing(r, v)
	}
	return lost(r, v)
}

// lost: the state partition is new, lost or unreadable. What runs and what the firmware says is all there is.
func lost(r Record, v View) Step {
	switch {
	case v.Loader.Default == NoSlot && v.Session.Health == Unprobed:
		return Step{Do: DoProbe, Why: "neither record nor loader names a default slot: is this one well?"}
	case v.Loader.Default == NoSlot && v.Session.Health == Healthy:
		return Step{Do: DoConfirm, Slot: v.Running, Why: "neither record nor loader names a default slot, and this one is well"}
	case v.Running != v.Loader.Default:
		return rebootAtDeadline(v, "the record was lost, and this is not the default slot: it may be an unconfirmed trial")
	}
	n := fresh(v)
	n.Rebuilt = r.Rebuilt
	return Step{Do: DoSave, Record: &n, Event: "rebuilt", Why: "the record starts from what is seen: " + r.Rebuilt}
}

func rebootAtDeadline(v View, why string) Step {
	if v.Boot.Uptime >= v.Settings.Deadline {
		return Step{Do: DoReboot, Why: why}
	}
	return Step{Do: DoWait, Why: why + "; it reboots at the deadline"}
}

// idle: nothing is under way. Old leases are left, a fallback is made good, and the next transaction is opened.
func idle(r Record, v View) Step {
	other := v.Running.Other()
	switch {
	case v.Running != v.Loader.Default:
		return fallback(r, v)
	case v.Session.PollDue:
		return Step{Do: DoRefresh, Why: "look for releases"}
	case v.Loader.Trial.Slot == other, v.Loader.Enabled(other) && unfit(r.Slots[other].State):
		return Step{Do: DoDisable, Slot: other, Why: "slot " + string(other) + " may be chosen by the loader, and no update is under way"}
	case len(r.Outbox) > 0 && !v.Session.LeaveLate:
		return leave(r, v)
	}
	if s, ok := obey(r, v); ok {
		return s
	}
	return automatic(r, v)
}

func unfit(s SlotState) bool { return s == Writing || s == Verified || s == Failed }
