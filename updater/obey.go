package updater

import (
	"fmt"
	"strings"

	"github.com/evenkeel-os/evenkeel/release"
)

// Who opens a transaction, as a Gate hears it.
const (
	byAgent  = "agent"
	operator = "operator"
)

// obey answers an operator while nothing is under way.
func obey(r Record, v View) (Step, bool) {
	switch v.Intent.Verb {
	case Update:
		return obeyUpdate(r, v), true
	case Rollback:
		return obeyRollback(r, v), true
	case Retry:
		return obeyRetry(r, v), true
	case Cancel:
		return refuse("no update is under way: there is nothing to cancel"), true
	case Confirm:
		return Step{Do: DoAnswer, Why: "slot " + string(v.Running) + " is confirmed already"}, true
	case CheckNow:
		return Step{Do: DoAnswer, Why: v.Offers.summary(r, v)}, true
	}
	return Step{}, false
}

func refuse(why string) Step { return Step{Do: DoAnswer, Refused: true, Why: why} }

func obeyUpdate(r Record, v View) Step {
	rel, no, ok := wanted(r, v)
	if !ok {
		return no
	}
	return open(r, v, rel, operator)
}

// wanted is the release that an operator's update means, or the answer that there is none.
func wanted(r Record, v View) (rel release.Release, no Step, ok bool) {
	if v.Intent.Version == "" {
		rel, ok = v.Offers.Newest(r, v.Boot.Running)
		no = Step{Do: DoAnswer, Why: v.Offers.summary(r, v)}
	} else {
		rel, no, ok = wantedByName(r, v)
	}
	// Writing it again would cost the host its fallback, for what is there already.
	if b := v.Running.Other(); ok && r.Slots[b].State == SlotConfirmed && r.Slots[b].Serial == rel.Serial {
		return rel, refuse(fmt.Sprintf("slot %s holds release %s already, and it was confirmed: \"evenkeel rollback\" goes to it", b, rel.Version)), false
	}
	return rel, no, ok
}

func wantedByName(r Record, v View) (rel release.Release, no Step, ok bool) {
	rel, ok = v.Offers.named(v.Intent.Version)
	if !ok {
		return rel, refuse(fmt.Sprintf("the repository offers no release %q: see \"evenkeel check\" for what there is", v.Intent.Version)), false
	}
	if why := v.Offers.Judge(rel, r, v.Boot.Running); why != "" {
		return rel, refuse(fmt.Sprintf("release %s cannot be installed: %s", rel.Version, why)), false
	}
	return rel, Step{}, true
}

func obeyRollback(r Record, v View) Step {
	b := v.Running.Other()
	sr := r.Slots[b]
	if sr.State != SlotConfirmed {
		return refuse(fmt.Sprintf("slot %s holds nothing that was ever confirmed here: there is nothing to go back to", b))
	}
	if why := v.Offers.withdrawn(sr.Serial); why != "" && !v.Intent.Force {
		return refuse(fmt.Sprintf("release %s in slot %s was withdrawn (%s): use --force to go back to it all the same", sr.Version, b, why))
	}
	rel := release.Release{Version: sr.Version, Serial: sr.Serial, Images: sr.Images}
	if sr.Boot != nil {
		rel.Boot = *sr.Boot
	}
	n := r.begin(v, rel, operator)
	n.Phase, n.Txn.Rollback = Staged, true
	return Step{Do: DoSave, Record: &n, Event: "rollback", Answers: true, Why: "the operator goes back to " + sr.Version + " in slot " + string(b)}
}

// obeyRetry unblocks one release or all, and says which; a name that is not blocked is a mistake to be told.
func obeyRetry(r Record, v View) Step {
	n := r.clone()
	n.Blocked = nil
	var again, still []string
	for _, b := range r.Blocked {
		if v.Intent.Version != "" && b.Version != v.Intent.Version {
			n.Blocked, still = append(n.Blocked, b), append(still, b.Version)
			continue
		}
		again = append(again, "release "+b.Version)
	}
	switch all := fmt.Sprintf("everything up to serial %d", r.BlockedUpTo); {
	case r.BlockedUpTo == 0:
	case v.Intent.Version == "":
		n.BlockedUpTo, again = 0, append(again, all)
	default:
		still = append(still, all)
	}
	if v.Intent.Force && r.LoaderDoubt != "" {
		n.LoaderDoubt, again = "", append(again, "the boot loader")
	}
	switch {
	case len(again) > 0:
		return Step{Do: DoSave, Record: &n, Event: "retry", Answers: true, Why: "the operator allowed it again: " + strings.Join(again, ", ")}
	case len(still) > 0:
		return refuse(fmt.Sprintf("release %s is not blocked; what is: %s", v.Intent.Version, strings.Join(still, ", ")))
	}
	return Step{Do: DoAnswer, Why: "nothing is blocked"}
}

// obeyUnderWay answers an operator while a release is written, or waits to be tried.
func obeyUnderWay(r Record, v View) (Step, bool) {
	t := r.Txn
	switch v.Intent.Verb {
	case Update:
		return updateUnderWay(r, v)
	case Rollback:
		if t.Rollback {
			return takeOver(r, v), true
		}
		return refuse(fmt.Sprintf("slot %s was overwritten with release %s: there is nothing in it to go back to; \"evenkeel cancel\" calls the update off",
			t.Slot, t.Release.Version)), true
	case Confirm:
		return refuse("release " + t.Release.Version + " has not been tried yet: there is nothing to confirm"), true
	case Retry:
		return obeyRetry(r, v), true
	case CheckNow:
		return Step{Do: DoAnswer, Why: v.Offers.summary(r, v)}, true
	}
	return Step{}, false
}

// updateUnderWay: an operator who asks for what is under way makes it his own, so that the gate lets it go on. Who asks
// for something else that may be installed gets that: this one is superseded, and the intent opens the other.
func updateUnderWay(r Record, v View) (Step, bool) {
	t := r.Txn
	same := v.Intent.Version == t.Release.Version
	if _, better := newer(r, v); v.Intent.Version == "" && !better {
		same = true
	}
	if same && !t.Rollback {
		return takeOver(r, v), true
	}
	rel, no, ok := wanted(r, v)
	if !ok {
		return no, true
	}
	return shut(r, Superseded, "the operator asked for release "+rel.Version), true
}

func takeOver(r Record, v View) Step {
	n := r.clone()
	n.Txn.By, n.Txn.NoReboot = operator, v.Intent.NoReboot
	n.Txn.Pinned = n.Txn.Pinned || v.Intent.Version != ""
	return Step{Do: DoSave, Record: &n, Answers: true, Why: "release " + n.Txn.Release.Version + " goes on as the operator asked"}
}

// obeyInTrial answers an operator in the slot that is on trial.
func obeyInTrial(r Record, v View) (Step, bool) {
	switch v.Intent.Verb {
	case Cancel, Rollback:
		s := revert(r, Cancelled, "cancelled by the operator during the trial", nil)
		s.Answers = true
		return s, true
	case Confirm:
		if !v.Intent.Force && v.Session.Health != Healthy {
			return Step{}, false // the probe answers
		}
		s := confirmed(r)
		s.Answers, s.Why = true, s.Why+", says the operator"
		return s, true
	case Update:
		return refuse("release " + r.Txn.Release.Version + " is on trial: wait for its verdict"), true
	case Retry, CheckNow:
		return refuse("a trial is under way: ask again when it is over"), true
	}
	return Step{}, false
}

// refuseConfirm: the operator said confirm, and the health checks said no.
func refuseConfirm(v View, s Step) Step {
	s.Answers = v.Intent.Verb == Confirm
	s.Refused = s.Answers
	return s
}
