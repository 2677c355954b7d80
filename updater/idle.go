package updater

import (
	"fmt"

	"github.com/evenkeel-os/evenkeel/release"
)

// fallback: the firmware left the default slot, or a person chose another one in the boot menu. What runs is made the
// default if it was confirmed once and is well now. What it left is blocked only with evidence, for a person's choice
// is none; and a sick fallback stays up, since rebooting would loop when the default is dead.
func fallback(r Record, v View) Step {
	run := v.Running
	if r.Slots[run].State != SlotConfirmed {
		return rebootAtDeadline(v, "slot "+string(run)+" is not the default and was never confirmed")
	}
	switch v.Session.Health {
	case Unprobed:
		return Step{Do: DoProbe, Why: "slot " + string(run) + " runs and is not the default: is it well?"}
	case Sick:
		if v.Intent.Verb != Confirm || !v.Intent.Force {
			return Step{Do: DoWait, Why: "slot " + string(run) + " is a fallback and its health checks fail: it stays up, and nothing is " +
				"installed until an operator says \"evenkeel confirm --force\""}
		}
	}
	if s, ok := blame(r, v, run.Other()); ok {
		return s
	}
	s := Step{Do: DoConfirm, Slot: run, Why: "fell back to slot " + string(run) + ", and it is well"}
	if r.Slots[run.Other()].State != Failed { // the history does not know yet
		s.Event = "fell back"
	}
	return s
}

// blame blocks the release of a default slot that died, while the evidence can still be read: it is gone at the next boot.
func blame(r Record, v View, dead Slot) (Step, bool) {
	sr := r.Slots[dead]
	why, ok := evidence(v, dead)
	if !ok || sr.State != SlotConfirmed {
		return Step{}, false
	}
	why = brief(why)
	n := r.clone()
	n.block(Blocked{Version: sr.Version, Serial: sr.Serial, Outcome: Unhealthy, Reason: why, Since: v.Now})
	sr.State, sr.Since = Failed, v.Now
	n.Slots[dead] = sr
	return Step{Do: DoSave, Record: &n, Event: "fell back", Why: "slot " + string(dead) + " failed long after it was confirmed: " + why}, true
}

// leave empties the outbox one lease at a time; each is forgotten only after the gate took it back.
func leave(r Record, v View) Step {
	if !v.Session.Left {
		return Step{Do: DoLeave, Why: "give the lease back"}
	}
	n := r.clone()
	n.Outbox = n.Outbox[1:]
	return Step{Do: DoSave, Record: &n, Why: "the lease was given back"}
}

// automatic opens the newest release that may be installed, as the gate allows.
func automatic(r Record, v View) Step {
	rel, ok := v.Offers.Newest(r, v.Boot.Running)
	switch {
	case !ok:
		return Step{Do: DoWait, Why: v.Offers.summary(r, v)}
	case !v.Settings.Auto:
		return Step{Do: DoWait, Why: "release " + rel.Version + " is on offer, and nobody asked for it: run \"evenkeel update\""}
	case v.Session.GaveUp == rel.Serial:
		return Step{Do: DoWait, Why: "release " + rel.Version + " could not be written or armed; it is tried again after the next check"}
	case v.Session.Asked != Install:
		return Step{Do: DoAsk, Stage: Install, Why: "may release " + rel.Version + " be installed now?"}
	case !v.Session.Verdict.Open:
		return Step{Do: DoWait, Why: v.Session.Verdict.Reason}
	}
	return open(r, v, rel, byAgent)
}

// open saves the transaction and "writing" before the first byte of the slot is touched.
func open(r Record, v View, rel release.Release, by string) Step {
	n := r.begin(v, rel, by)
	n.Phase = Staging
	boot := rel.Boot
	n.Slots[n.Txn.Slot] = SlotRecord{
		State: Writing, Version: rel.Version, Serial: rel.Serial, Images: slim(rel.Images), Boot: &boot, Since: v.Now,
	}
	return Step{
		Do: DoSave, Record: &n, Event: "staging", Answers: by == operator,
		Why: fmt.Sprintf("install release %s into slot %s", rel.Version, n.Txn.Slot),
	}
}

// slim drops what only a download needs: the record is small.
func slim(images []release.Image) []release.Image {
	s := make([]release.Image, len(images))
	for i, im := range images {
		im.Index, im.Pack = "", ""
		s[i] = im
	}
	return s
}
