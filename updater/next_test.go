package updater_test

import (
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/updater"
)

// TestNextIsTotal: for every record that can be read and every view, likely or not, there is one step, and it is one
// that its port would not refuse.
func TestNextIsTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, v := drawRecord(t), drawView(t)
		before := mustEncodeRapid(t, r)
		s := updater.Next(r, v)
		if again := updater.Next(r, v); !reflect.DeepEqual(s, again) {
			t.Fatalf("the same record and view give %+v and %+v", s, again)
		}
		if mustEncodeRapid(t, r) != before {
			t.Fatalf("%s changed the record that it was given", s.Do)
		}
		if why := wrongStep(r, v, s); why != "" {
			t.Fatalf("%s: %+v", why, s)
		}
	})
}

func mustEncodeRapid(t *rapid.T, r updater.Record) string {
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func wrongStep(r updater.Record, v updater.View, s updater.Step) string {
	switch s.Do {
	case updater.DoSave:
		return wrongSave(r, v, s)
	case updater.DoDisable:
		if s.Slot.Other() != v.Loader.Default {
			return "Disable of the default slot, or without one"
		}
	case updater.DoInstall:
		if s.Slot == v.Running || v.Loader.Enabled(s.Slot) || v.Loader.Default != v.Running || r.Phase != updater.Staging || !v.Session.Retired {
			return "Install of what runs, or may be booted"
		}
	case updater.DoTry:
		return wrongTry(r, v, s)
	case updater.DoConfirm:
		return wrongConfirm(r, v, s)
	case updater.DoWait:
		if v.Intent.Verb != updater.NoVerb {
			return "an operator is left without an answer"
		}
	case updater.DoAnswer:
		if v.Intent.Verb == updater.NoVerb || s.Why == "" {
			return "an answer that nobody asked for, or an empty one"
		}
	case updater.DoSettle, updater.DoRefresh, updater.DoAsk, updater.DoBaseline, updater.DoEnter, updater.DoLeave, updater.DoProbe, updater.DoVerify, updater.DoReboot:
	default:
		return "no such step"
	}
	return ""
}

func wrongSave(r updater.Record, v updater.View, s updater.Step) string {
	b, err := s.Record.Encode()
	if err != nil {
		return err.Error()
	}
	n, err := updater.DecodeRecord(b, updater.Schema)
	switch {
	case err != nil:
		return "what is saved cannot be read: " + err.Error()
	case s.Answers && v.Intent.Verb == updater.NoVerb:
		return "it answers nobody"
	case n.Txn != nil && n.Txn.Outcome == updater.Confirmed && (r.Phase != updater.Confirming || v.Running != n.Txn.Slot || !v.Session.Confirmed):
		return "confirmed without Confirm in this boot, or from the other slot"
	case n.Phase == updater.Confirming && v.Session.Health != updater.Healthy && !v.Intent.Force:
		return "confirming what is not well"
	case n.Phase == updater.Armed && r.Phase != updater.Armed && (!v.Session.Tried || v.Running != n.Txn.From):
		return "armed without Try"
	}
	return ""
}

func wrongTry(r updater.Record, v updater.View, s updater.Step) string {
	t := r.Txn
	switch {
	case r.Phase != updater.Staged || s.Slot != t.Slot || v.Running != t.From || v.Loader.Default != t.From:
		return "Try of what is not staged, or without a way back"
	case t.Lease == nil || t.AttemptBoot != v.Boot.ID || !v.Session.Entered || !v.Session.Verdict.Open:
		return "Try without its lease, attempt or gate"
	case !t.Rollback && !v.Session.Looked:
		return "Try of what may have been withdrawn"
	}
	return ""
}

func wrongConfirm(r updater.Record, v updater.View, s updater.Step) string {
	t := r.Txn
	switch {
	case r.Slots[s.Slot].State == updater.SlotConfirmed, t != nil && s.Slot == t.From:
		return ""
	case r.Phase == updater.Lost && v.Loader.Default == updater.NoSlot && v.Session.Health == updater.Healthy && s.Slot == v.Running:
		return ""
	case t != nil && s.Slot == t.Slot && r.Phase == updater.Confirming && v.Running == s.Slot:
		return ""
	case t != nil && s.Slot == t.Slot && (r.Phase == updater.Closing && t.Outcome == updater.Confirmed || t.Rollback && t.Outcome != ""):
		return ""
	}
	return "Confirm of a slot that never passed"
}

func one[T any](t *rapid.T, of ...T) T { return rapid.SampledFrom(of).Draw(t, "one") }

func flip(t *rapid.T) bool { return rapid.Bool().Draw(t, "flip") }

func drawSlot(t *rapid.T) updater.Slot { return one(t, updater.A, updater.B) }

func drawRelease(t *rapid.T) release.Release {
	r := release.Release{
		Product: "p", Compatible: []string{"c"}, Architecture: "amd64", Layout: one(t, 1, 2), Version: one(t, "v0", "v1", "v2"),
		Serial: one(t, uint64(10), 20, 30), Withdrawn: one(t, "", "", "broken"),
	}
	return r
}

func drawRecord(t *rapid.T) updater.Record {
	phase := one(t, updater.Lost, updater.Idle, updater.Staging, updater.Staged, updater.Armed, updater.InTrial, updater.Confirming, updater.Reverting, updater.Closing)
	r := updater.Record{Schema: 1, MinReader: 1, Phase: phase, NextTxn: 3, Slots: map[updater.Slot]updater.SlotRecord{}, LoaderCounts: flip(t), LoaderDoubt: one(t, "", "", "doubt")}
	for _, s := range []updater.Slot{updater.A, updater.B} {
		state := one(t, updater.Unknown, updater.Writing, updater.Verified, updater.SlotConfirmed, updater.Failed)
		r.Slots[s] = updater.SlotRecord{State: state, Version: one(t, "v0", "v1"), Serial: one(t, uint64(10), 20), Reads: one(t, 0, 1)}
	}
	if flip(t) {
		r.Blocked = []updater.Blocked{{Version: "v1", Serial: 20, Outcome: updater.Unhealthy}}
	}
	if flip(t) {
		r.Outbox = []updater.Lease{{Txn: 1}}
	}
	if phase != updater.Lost && phase != updater.Idle {
		r.Txn = drawTxn(t, phase)
	}
	return r
}

func drawTxn(t *rapid.T, phase updater.Phase) *updater.Txn {
	from := drawSlot(t)
	txn := &updater.Txn{
		ID: 2, Schema: 1, From: from, Slot: from.Other(), Release: drawRelease(t), Rollback: flip(t), NoReboot: flip(t), By: one(t, "agent", "operator"),
		Pinned: flip(t), Tries: one(t, 1, 3), Attempts: one(t, 0, 1, 5, 9), AttemptBoot: one(t, "", "now", "before"), Boots: one(t, 0, 1, 3),
		TrialBoot: one(t, "", "now", "before"), Unspent: one(t, 0, 1, 2),
	}
	if flip(t) {
		txn.Lease = &updater.Lease{Txn: 2}
	}
	switch phase {
	case updater.Reverting:
		txn.Outcome = one(t, updater.Unhealthy, updater.Cancelled)
	case updater.Closing:
		txn.Outcome = one(t, updater.Confirmed, updater.Unhealthy, updater.NeverCameUp, updater.Interrupted, updater.Cancelled,
			updater.Superseded, updater.Withdrawn, updater.GaveUp)
		txn.Blameless = flip(t)
	}
	return txn
}

func drawView(t *rapid.T) updater.View {
	v := updater.View{
		Running: drawSlot(t), Caps: updater.Caps{MaxTries: one(t, 1, 7), CountsDefault: flip(t), SafeWhenFailing: flip(t)},
		Boot: updater.Boot{ID: "now", Uptime: one(t, time.Second, time.Hour), Reset: updater.Reset{
			Cause: one(t, updater.CauseUnknown, updater.CausePower, updater.CausePanic, updater.CauseWatchdog, updater.CauseDeadline, updater.CauseReboot),
			Slot:  one(t, updater.NoSlot, updater.A, updater.B),
		}},
		Intent: updater.Intent{
			Verb:    one(t, updater.NoVerb, updater.NoVerb, updater.Update, updater.Rollback, updater.Confirm, updater.Cancel, updater.Retry, updater.CheckNow),
			Version: one(t, "", "v1", "v2", "v9"), NoReboot: flip(t), Force: flip(t),
		},
		Settings: updater.Settings{Tries: one(t, 1, 3), MaxAttempts: 5, Deadline: time.Minute, AcceptRisk: flip(t), Auto: flip(t)},
		Session:  drawSession(t), Loader: drawLoader(t),
	}
	v.Boot.Running = updater.Running{Version: "v0", Serial: 10}
	v.Offers = updater.Offers{This: release.Host{Product: "p", Compatible: "c", Architecture: "amd64", Layout: 1, Agent: "1.0.0"}, Known: flip(t)}
	for range rapid.IntRange(0, 3).Draw(t, "offers") {
		v.Offers.Releases = append(v.Offers.Releases, drawRelease(t))
	}
	return v
}

func drawLoader(t *rapid.T) updater.BootState {
	l := updater.BootState{Default: one(t, updater.NoSlot, updater.A, updater.B), EnabledA: flip(t), EnabledB: flip(t)}
	l.EnabledA, l.EnabledB = l.EnabledA || l.Default == updater.A, l.EnabledB || l.Default == updater.B
	if s := l.Default.Other(); s != updater.NoSlot && flip(t) {
		l.Trial = updater.Trial{Slot: s, TriesLeft: one(t, 0, 1, 3), LoadError: flip(t)}
	}
	return l
}

func drawSession(t *rapid.T) updater.Session {
	return updater.Session{
		Settled: flip(t), Installed: flip(t), Baselined: flip(t), Checked: flip(t), Entered: flip(t), Tried: flip(t), Confirmed: flip(t),
		Health: one(t, updater.Unprobed, updater.Healthy, updater.Sick), Verdict: updater.Verdict{Open: flip(t)},
		Asked: one(t, updater.Stage(""), updater.Install, updater.Arm), Left: flip(t), LeaveLate: flip(t), PollDue: flip(t), Looked: flip(t), Retired: flip(t),
		GaveUp: one(t, uint64(0), 20), Retries: one(t, 0, 3), Unsaved: flip(t), Failed: one(t, updater.Do(""), updater.DoDisable, updater.DoConfirm),
	}
}
