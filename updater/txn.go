package updater

import (
	"fmt"
	"slices"
	"strings"

	"github.com/evenkeel-os/evenkeel/release"
)

// staging: the slot is unbootable and being written. A restart or a power cut comes back here; what is right already
// is kept.
func staging(r Record, v View) Step {
	t := r.Txn
	if s, ok := closeEarly(r, v); ok {
		return s
	}
	if s, ok := retreat(r, v); ok {
		return s
	}
	switch {
	case v.Session.Retries >= maxInstalls:
		return shut(r, GaveUp, "it could not be written")
	case !v.Session.Retired: // the variables may say so already, and the entry that a cut Try wrote be there all the same
		return Step{Do: DoDisable, Slot: t.Slot, Why: "no boot entry of slot " + string(t.Slot) + " may be left while it is written"}
	case !v.Session.Installed:
		return Step{Do: DoInstall, Slot: t.Slot, Why: "write release " + t.Release.Version + " to slot " + string(t.Slot)}
	}
	n := r.clone()
	n.Phase = Staged
	sr := n.Slots[t.Slot]
	sr.State, sr.Since = Verified, v.Now
	n.Slots[t.Slot] = sr
	return Step{Do: DoSave, Record: &n, Event: "staged", Why: "slot " + string(t.Slot) + " reads back as release " + t.Release.Version}
}

// maxInstalls is how often a slot is written in one session before the agent gives up: a disk that fails three times
// is not worn further. A boot loader that cannot be armed is no different. Failures of the network do not count.
const maxInstalls = 3

// closeEarly ends a transaction that is not wanted any more, before it is tried, and answers operators meanwhile.
func closeEarly(r Record, v View) (Step, bool) {
	t := r.Txn
	if v.Intent.Verb == Cancel {
		s := shut(r, Cancelled, "cancelled by the operator")
		s.Answers = true
		return s, true
	}
	if v.Session.PollDue {
		return Step{Do: DoRefresh, Why: "look for releases"}, true
	}
	if why := v.Offers.withdrawn(t.Release.Serial); why != "" && !t.Rollback {
		return shut(r, Withdrawn, "withdrawn: "+why), true
	}
	if s, ok := obeyUnderWay(r, v); ok {
		return s, true
	}
	if rel, ok := newer(r, v); ok {
		return shut(r, Superseded, "release "+rel.Version+" is newer"), true
	}
	return Step{}, false
}

// newer is a release that supersedes the one under way. An operator's choice is not superseded.
func newer(r Record, v View) (release.Release, bool) {
	t := r.Txn
	rel, ok := v.Offers.Newest(r, v.Boot.Running)
	return rel, ok && rel.Serial > t.Release.Serial && !t.Pinned && !t.Rollback
}

// shut saves the outcome first; what it means for the loader is done in Closing.
func shut(r Record, o Outcome, why string) Step {
	n := r.clone()
	why = brief(why)
	n.Phase, n.Txn.Outcome, n.Txn.Reason = Closing, o, why
	return Step{Do: DoSave, Record: &n, Event: "closing", Why: string(o) + ": " + why}
}

// retreat undoes what a trial did to the loader, in an order that can be cut anywhere: From is the default again, then
// Slot is unbootable, then we are on From. It is idempotent; false means that all of that holds.
//
// Where the loader cannot be written in the trial slot, its own counter is the way out: reboot until it is spent.
func retreat(r Record, v View) (Step, bool) {
	t := r.Txn
	b, l := t.Slot, v.Loader
	switch {
	case v.Running == b && (v.Session.Failed == DoDisable || v.Session.Failed == DoConfirm):
		return Step{Do: DoReboot, Why: "the loader cannot be written: its counter ends the trial of slot " + string(b)}, true
	case l.Default != t.From:
		return Step{Do: DoConfirm, Slot: t.From, Why: "slot " + string(t.From) + " is the default again"}, true
	case t.restores() && t.Attempts > 0 && (l.Trial.Slot == b || !l.Enabled(b)):
		return Step{Do: DoConfirm, Slot: b, Why: "slot " + string(b) + " was confirmed before: it may be chosen again"}, true
	case !t.restores() && (l.Trial.Slot == b || l.Enabled(b)):
		return Step{Do: DoDisable, Slot: b, Why: "the loader may not choose slot " + string(b)}, true
	case v.Running == b:
		return Step{Do: DoReboot, Why: "back to slot " + string(t.From)}, true
	}
	return Step{}, false
}

// restores: a rollback that was called off leaves its slot as it was: confirmed, and the fallback.
func (t *Txn) restores() bool {
	return t.Rollback && (t.Outcome == Cancelled || t.Outcome == Superseded || t.Outcome == Withdrawn || t.Blameless)
}

// staged: the slot is verified and unbootable. It stays so until every gate is open.
func staged(r Record, v View) Step {
	t, l := r.Txn, v.Loader
	if v.Running == t.Slot {
		return startTrial(r, v)
	}
	if s, ok := closeEarly(r, v); ok {
		return s
	}
	undo := !v.Session.Tried || v.Session.Unsaved
	switch {
	case l.Default != t.From:
		return Step{Do: DoConfirm, Slot: t.From, Why: "slot " + string(t.From) + " is the default again"}
	case undo && (l.Trial.Slot == t.Slot || l.Enabled(t.Slot) && !t.Rollback):
		return Step{Do: DoDisable, Slot: t.Slot, Why: "an attempt was interrupted: slot " + string(t.Slot) + " may not be chosen meanwhile"}
	case v.Session.Tried && !v.Session.Unsaved:
		n := r.clone()
		n.Phase = Armed
		return Step{Do: DoSave, Record: &n, Event: "armed", Why: fmt.Sprintf("the next boots try slot %s, %d at most", t.Slot, t.Tries)}
	}
	if s, ok := refuseToArm(r, v); ok {
		return s
	}
	return arm(r, v)
}

// refuseToArm: reasons that no waiting removes.
func refuseToArm(r Record, v View) (Step, bool) {
	t := r.Txn
	switch {
	case t.Attempts >= v.Settings.MaxAttempts && t.AttemptBoot != v.Boot.ID:
		return attemptsSpent(r), true
	case v.Settings.AcceptRisk:
	case r.LoaderDoubt != "":
		return Step{Do: DoWait, Why: "the boot loader is not trusted to count down a trial: " + r.LoaderDoubt + " (\"evenkeel retry --force\" trusts it again)"}, true
	case !r.LoaderCounts && !v.Caps.SafeWhenFailing:
		return Step{Do: DoWait, Why: "this boot loader was never seen to count down a trial, and loops in a dead image if it cannot; " +
			"accept that risk in the configuration, or use a loader that is safe"}, true
	}
	return Step{}, false
}

func attemptsSpent(r Record) Step {
	s := shut(r, Interrupted, fmt.Sprintf("%d attempts ended without a verdict", r.Txn.Attempts))
	if r.Txn.Unspent > 0 {
		s.Record.Txn.Blameless = true
		s.Record.LoaderDoubt = "it came back without spending a try"
	}
	return s
}

// arm takes the steps to a trial in order. The lease is wanted before it is taken, so it is never forgotten; the
// attempt is saved before Try, so power cuts cannot repeat it for ever, and after Enter, so waiting spends none.
func arm(r Record, v View) Step {
	t := r.Txn
	switch {
	case v.Session.Retries >= maxInstalls && t.Rollback && !v.Session.Checked:
		return shut(r, GaveUp, "the boot files of slot "+string(t.Slot)+" are not as they were")
	case v.Session.Retries >= maxInstalls: // a lease that is held would keep others from their update
		s := shut(r, GaveUp, "slot "+string(t.Slot)+" could not be armed")
		s.Record.Txn.Blameless = true // a slot to go back to stays one
		return s
	case t.Rollback && !v.Session.Checked:
		return Step{Do: DoVerify, Slot: t.Slot, Why: "are the boot files of slot " + string(t.Slot) + " as they were?"}
	case v.Session.Asked != Arm:
		return Step{Do: DoAsk, Stage: Arm, Why: "may release " + t.Release.Version + " be tried now?"}
	case !v.Session.Verdict.Open:
		return Step{Do: DoWait, Why: v.Session.Verdict.Reason}
	case !v.Session.Looked && !t.Rollback: // an install may have taken hours
		return Step{Do: DoRefresh, Why: "is release " + t.Release.Version + " still offered?"}
	case len(r.Outbox) > 0 && v.Session.LeaveLate:
		return Step{Do: DoWait, Why: "the lease of the last update could not be given back yet"}
	case len(r.Outbox) > 0:
		return leave(r, v)
	case !v.Session.Baselined:
		return Step{Do: DoBaseline, Why: "note what works in slot " + string(t.From)}
	case t.Lease == nil || v.Session.Unsaved:
		n := r.clone()
		n.Txn.Lease = &Lease{Txn: t.ID, Version: t.Release.Version}
		return Step{Do: DoSave, Record: &n, Why: "a lease is wanted"}
	case !v.Session.Entered:
		return Step{Do: DoEnter, Why: "take the lease"}
	case t.AttemptBoot != v.Boot.ID:
		n := r.clone()
		n.Txn.Attempts++
		n.Txn.AttemptBoot, n.Txn.Boots, n.Txn.TrialBoot = v.Boot.ID, 0, ""
		n.Txn.Lease = &v.Session.Lease
		return Step{Do: DoSave, Record: &n, Why: fmt.Sprintf("attempt %d", n.Txn.Attempts)}
	}
	return Step{Do: DoTry, Slot: t.Slot, Why: fmt.Sprintf("arm slot %s, %d tries", t.Slot, t.Tries)}
}

// armed: the loader will try the slot at the next boot.
func armed(r Record, v View) Step {
	t := r.Txn
	if v.Running == t.Slot {
		return startTrial(r, v)
	}
	if t.AttemptBoot != v.Boot.ID {
		return left(r, v)
	}
	if s, ok := closeEarly(r, v); ok {
		return s
	}
	if t.NoReboot {
		return Step{Do: DoWait, Why: "release " + t.Release.Version + " is tried at the next reboot"}
	}
	return Step{Do: DoReboot, Why: "try release " + t.Release.Version + " in slot " + string(t.Slot)}
}

// startTrial counts this boot of the trial slot, whatever the record expected: we may be here before Armed was saved.
func startTrial(r Record, v View) Step {
	if v.Session.Unsaved && v.Boot.Uptime >= v.Settings.Deadline {
		return Step{Do: DoReboot, Why: "the record cannot be saved, so the trial cannot be confirmed"}
	}
	n := r.clone()
	t := n.Txn
	t.Boots++
	t.TrialBoot = v.Boot.ID
	if r.Phase == Armed {
		n.LoaderCounts = n.LoaderCounts || !unspent(v, t)
		if unspent(v, t) {
			n.LoaderDoubt = "it started slot " + string(t.Slot) + " without spending a try"
		}
	}
	if t.Boots > t.Tries {
		n.LoaderDoubt = fmt.Sprintf("it started slot %s %d times for %d tries", t.Slot, t.Boots, t.Tries)
		return shut(n, Unhealthy, "never confirmed in "+fmt.Sprint(t.Tries)+" boots")
	}
	n.Phase = InTrial
	return Step{Do: DoSave, Record: &n, Event: "trial", Why: fmt.Sprintf("slot %s runs on trial, boot %d of %d", t.Slot, t.Boots, t.Tries)}
}

// unspent: the loader's variables still show every try.
func unspent(v View, t *Txn) bool {
	return v.Loader.Trial.Slot == t.Slot && v.Loader.Trial.TriesLeft >= t.Tries
}

// inTrial: only a passed health check leads on; everything else leads back.
func inTrial(r Record, v View) Step {
	t := r.Txn
	switch {
	case v.Running != t.Slot:
		return left(r, v)
	case t.TrialBoot != v.Boot.ID:
		return startTrial(r, v)
	case v.Session.Unsaved && v.Boot.Uptime >= v.Settings.Deadline:
		return Step{Do: DoReboot, Why: "the record cannot be saved, so the trial cannot be confirmed"}
	}
	if why := mislabeled(t, v.Boot.Running); why != "" {
		return refuseConfirm(v, revert(r, Unhealthy, why, nil))
	}
	if s, ok := obeyInTrial(r, v); ok {
		return s
	}
	switch {
	case v.Session.Health == Healthy:
		return confirmed(r)
	case v.Session.Health == Sick:
		return refuseConfirm(v, revert(r, Unhealthy, v.Session.Report.Failure(), v.Session.Report.Checks))
	case v.Boot.Uptime >= v.Settings.Deadline:
		return refuseConfirm(v, revert(r, Unhealthy, "no verdict by the deadline", nil))
	}
	return Step{Do: DoProbe, Why: "is slot " + string(t.Slot) + " well?"}
}

// mislabeled: what runs decides what is newer. An image that takes itself for another release would be updated to the
// same one for ever, and overwrite the fallback with it; not even an operator may confirm that.
func mislabeled(t *Txn, run Running) string {
	if t.Rollback || run.Serial == t.Release.Serial {
		return ""
	}
	return fmt.Sprintf("the image says that it is serial %d, and the release is %d", run.Serial, t.Release.Serial)
}

func confirmed(r Record) Step {
	n := r.clone()
	n.Phase = Confirming
	return Step{Do: DoSave, Record: &n, Event: "healthy", Why: "slot " + string(r.Txn.Slot) + " is well"}
}

func revert(r Record, o Outcome, why string, checks []Check) Step {
	n := r.clone()
	why = brief(why)
	n.Phase, n.Txn.Outcome, n.Txn.Reason, n.Txn.Checks = Reverting, o, why, telling(checks)
	return Step{Do: DoSave, Record: &n, Event: "reverting", Why: string(o) + ": " + why}
}

// Bounds of what is kept for people: a record that is too large is one that cannot be saved.
const (
	maxReason = 512
	maxChecks = 32
	maxName   = 64
)

// brief keeps what a reason begins with, and how it ends, for there are the last words of a kernel.
func brief(why string) string {
	if len(why) <= maxReason {
		return why
	}
	return head(why, maxReason/4) + " ... " + tail(why, maxReason/2)
}

// telling are the checks that say most: all, or of too many those that failed and were required first.
func telling(checks []Check) []Check {
	worst := func(c Check) int {
		switch {
		case c.OK:
			return 2
		case c.Required:
			return 0
		}
		return 1
	}
	few := slices.Clone(checks)
	if len(few) > maxChecks {
		slices.SortStableFunc(few, func(a, b Check) int { return worst(a) - worst(b) })
		few = few[:maxChecks]
	}
	for i := range few {
		few[i].Name = head(few[i].Name, maxName)
	}
	return few
}

// left: the slot was armed or on trial, and From runs again. Evidence is read only when a try was spent, for otherwise
// the slot never ran; and where there is none, it was an interruption, which attempts bound.
func left(r Record, v View) Step {
	t := r.Txn
	if r.Phase == Armed && unspent(v, t) {
		return neverStarted(r, v)
	}
	if why, ok := evidence(v, t.Slot); ok {
		o := NeverCameUp
		if r.Phase == InTrial {
			o = Unhealthy
		}
		s := shut(r, o, why)
		s.Record.LoaderCounts = true
		return s
	}
	n := r.clone()
	n.Phase, n.LoaderCounts = Staged, true
	return Step{Do: DoSave, Record: &n, Event: "interrupted", Why: "the trial of slot " + string(t.Slot) + " ended without evidence: " + string(v.Boot.Reset.Cause)}
}

// neverStarted: the loader came back to From with every try unspent. Once may be a person at the boot menu.
func neverStarted(r Record, v View) Step {
	n := r.clone()
	n.Phase = Staged
	why := "the loader did not start slot " + string(r.Txn.Slot)
	if v.Boot.Reset.Cause == CausePower {
		return Step{Do: DoSave, Record: &n, Event: "interrupted", Why: why + ": power was lost"}
	}
	n.Txn.Unspent++
	if n.Txn.Unspent < 2 {
		return Step{Do: DoSave, Record: &n, Event: "interrupted", Why: why}
	}
	s := shut(n, Interrupted, why+", twice, and spent no try")
	s.Record.Txn.Blameless = true
	s.Record.LoaderDoubt = why + ", twice, and spent no try"
	return s
}

// evidence says what is known of the end of slot s, if its end was its own fault.
func evidence(v View, s Slot) (string, bool) {
	if t := v.Loader.Trial; t.Slot == s && t.LoadError {
		return "the boot loader could not load it", true
	}
	reset := v.Boot.Reset
	if reset.Slot != NoSlot && reset.Slot != s {
		return "", false
	}
	why := map[Cause]string{
		CausePanic:    "its kernel panicked",
		CauseWatchdog: "the hardware watchdog reset it",
		CauseDeadline: "its agent did not report by the deadline",
	}[reset.Cause]
	if why == "" {
		return "", false
	}
	return strings.TrimSuffix(why+": "+reset.Detail, ": "), true
}

// confirming: health passed and that is saved. Whether Confirm happened before a cut is never inferred from the loader:
// it is simply done again.
func confirming(r Record, v View) Step {
	t := r.Txn
	if v.Intent.Verb == Cancel || v.Intent.Verb == Rollback {
		return refuse("slot " + string(t.Slot) + " is being confirmed: run \"evenkeel rollback\" afterwards")
	}
	if v.Running != t.Slot {
		n := r.clone()
		n.Phase = Staged
		return Step{Do: DoSave, Record: &n, Event: "interrupted", Why: "slot " + string(t.Slot) + " was left before it was confirmed"}
	}
	if !v.Session.Confirmed {
		return Step{Do: DoConfirm, Slot: t.Slot, Why: "slot " + string(t.Slot) + " becomes the default"}
	}
	return shut(r, Confirmed, "its health checks passed")
}

// reverting: a failure is saved, so there is never another Try; the slot may boot once more and comes back here.
func reverting(r Record, v View) Step {
	if v.Running == r.Txn.Slot {
		if s, ok := retreat(r, v); ok {
			return s
		}
	}
	return shut(r, r.Txn.Outcome, r.Txn.Reason)
}

// closing: the outcome is saved. What it means for the loader is done again until it holds, and then the record
// becomes Idle in one save, lease and all.
func closing(r Record, v View) Step {
	t := r.Txn
	if t.Outcome != Confirmed {
		if s, ok := retreat(r, v); ok {
			return s
		}
	} else if v.Running == t.Slot && v.Loader.Default != t.Slot {
		return Step{Do: DoConfirm, Slot: t.Slot, Why: "slot " + string(t.Slot) + " becomes the default"}
	}
	n := r.finish(v)
	return Step{Do: DoSave, Record: &n, Event: string(t.Outcome), Why: "release " + t.Release.Version + ": " + t.Reason}
}

// OnTrial reports whether the running slot must be left at the deadline unless it is confirmed. The deadline unit
// decides by it, without the agent; a record that cannot be read is the zero Record.
func OnTrial(r Record, running Slot, l BootState) bool {
	if t := r.Txn; t != nil && t.Slot == running {
		// Its health passed and it is the default: rebooting because that could not be saved would never end.
		passed := r.Phase == Confirming || r.Phase == Closing && t.Outcome == Confirmed
		return !passed || running != l.Default
	}
	return running != l.Default && r.Slots[running].State != SlotConfirmed
}
