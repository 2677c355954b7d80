package updater_test

import (
	"strings"
	"testing"
	"time"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/updater"
)

// situation is where an operator's command meets the agent: v1 runs in slot a, v2 is on offer.
type situation struct {
	r updater.Record
	v updater.View
}

func offer(version string, serial uint64) release.Release {
	return release.Release{Product: "p", Compatible: []string{"c"}, Architecture: "amd64", Layout: 1, Version: version, Serial: serial}
}

// in is a situation in a phase, edited.
func in(phase updater.Phase, edits ...func(*situation)) situation {
	s := situation{
		r: updater.Record{
			Schema: 1, MinReader: 1, Phase: phase, NextTxn: 3, LoaderCounts: true,
			Slots: map[updater.Slot]updater.SlotRecord{
				updater.A: {State: updater.SlotConfirmed, Version: "v1", Serial: 20},
				updater.B: {State: updater.SlotConfirmed, Version: "v0", Serial: 10},
			},
		},
		v: updater.View{
			Running: updater.A, Boot: updater.Boot{ID: "now", Running: updater.Running{Version: "v1", Serial: 20}},
			Loader: updater.BootState{Default: updater.A, EnabledA: true}, Caps: updater.Caps{MaxTries: 3},
			Offers:   updater.Offers{This: fixtures.ThisHost(), Known: true, Releases: []release.Release{offer("v0", 10), offer("v1", 20), offer("v2", 30)}},
			Settings: updater.Settings{Tries: 3, MaxAttempts: 5, Deadline: time.Minute, Auto: true},
		},
	}
	if phase != updater.Idle {
		s.r.Slots[updater.B] = updater.SlotRecord{State: updater.Verified, Version: "v2", Serial: 30}
		s.r.Txn = &updater.Txn{ID: 2, Schema: 1, From: updater.A, Slot: updater.B, Release: offer("v2", 30), By: "agent", Tries: 3, AttemptBoot: "now", TrialBoot: "now", Boots: 1}
	}
	for _, edit := range edits {
		edit(&s)
	}
	return s
}

func newer(s *situation) { s.v.Offers.Releases = append(s.v.Offers.Releases, offer("v3", 40)) }

func pinned(s *situation) { s.r.Txn.Pinned = true }

func noReboot(s *situation) { s.r.Txn.NoReboot = true }

func blocked(s *situation) {
	s.r.Blocked = []updater.Blocked{{Version: "v2", Serial: 30, Outcome: updater.Unhealthy, Reason: "web failed"}}
}

func expired(s *situation) { s.v.Offers.Stale = "timestamp has expired" }

func upTo(s *situation) { newer(s); s.r.BlockedUpTo = 40 }

func withdrawn(s *situation) { s.v.Offers.Releases[0].Withdrawn = "it leaks" }

func nothingConfirmed(s *situation) {
	s.r.Slots[updater.B] = updater.SlotRecord{State: updater.Failed, Version: "v0"}
}

// wentBack: an operator went back from v2 in slot b, and then allowed it again.
func wentBack(s *situation) {
	s.r.Slots[updater.B] = updater.SlotRecord{State: updater.SlotConfirmed, Version: "v2", Serial: 30}
}

func itFailed(s *situation) {
	s.r.Slots[updater.B] = updater.SlotRecord{State: updater.Failed, Version: "v2", Serial: 30}
}

func goingBack(s *situation) { s.r.Txn.Rollback, s.r.Txn.Release = true, offer("v0", 10) }

func onlyOld(s *situation) { s.v.Offers.Releases = s.v.Offers.Releases[:2] }

func onTrial(s *situation) {
	s.v.Running, s.v.Loader.EnabledB, s.v.Loader.Trial = updater.B, true, updater.Trial{Slot: updater.B, TriesLeft: 2}
	s.v.Boot.Running = updater.Running{Version: "v2", Serial: 30}
}

func says(serial uint64) func(*situation) {
	return func(s *situation) {
		probed(updater.Healthy)(s)
		s.v.Boot.Running.Serial = serial
	}
}

func probed(h updater.Health) func(*situation) {
	return func(s *situation) {
		onTrial(s)
		s.v.Session.Health, s.v.Session.Report = h, updater.Report{Checks: []updater.Check{{Name: "web", Required: true}}}
	}
}

// fellBack: slot b is the default and dead, slot a runs and is sick.
func fellBack(s *situation) {
	s.v.Loader = updater.BootState{Default: updater.B, EnabledA: true, EnabledB: true}
	s.v.Session.Health = updater.Sick
}

func doubted(s *situation) { s.r.LoaderDoubt = "it does not count" }

// TestOperators: every command in every situation, and what comes of it.
func TestOperators(t *testing.T) {
	ask := func(verb updater.Verb) updater.Intent { return updater.Intent{Verb: verb} }
	update, rollback, confirm := ask(updater.Update), ask(updater.Rollback), ask(updater.Confirm)
	cancel, retry, check := ask(updater.Cancel), ask(updater.Retry), ask(updater.CheckNow)
	to := func(version string) updater.Intent { return updater.Intent{Verb: updater.Update, Version: version} }
	force := func(i updater.Intent) updater.Intent { i.Force = true; return i }
	for _, c := range []struct {
		name string
		situation
		ask  updater.Intent
		want string // refused, answered, or the step; then the phase that is saved
		why  string
	}{
		{"idle, a newer release", in(updater.Idle), update, "saved staging", "install release v2 into slot b"},
		{"idle, nothing newer", in(updater.Idle, onlyOld), update, "answered", "release v1 (serial 20) is the newest there is"},
		{"idle, all blocked", in(updater.Idle, blocked), update, "answered", `"evenkeel retry v2" allows it again`},
		{"idle, by name", in(updater.Idle), to("v2"), "saved staging", "install release v2"},
		{"idle, blocked by name", in(updater.Idle, blocked), to("v2"), "refused", "it is blocked here (unhealthy: web failed)"},
		{"idle, an older one by name", in(updater.Idle), to("v0"), "refused", "a signed downgrade is still a downgrade"},
		{"idle, unknown", in(updater.Idle), to("v9"), "refused", `the repository offers no release "v9"`},
		{"idle, back", in(updater.Idle), rollback, "saved staged", "the operator goes back to v0 in slot b"},
		{"idle, nothing to go back to", in(updater.Idle, nothingConfirmed), rollback, "refused", "holds nothing that was ever confirmed"},
		{"idle, back to what was withdrawn", in(updater.Idle, withdrawn), rollback, "refused", "was withdrawn (it leaks): use --force"},
		{"idle, back to what was withdrawn, forced", in(updater.Idle, withdrawn), force(rollback), "saved staged", "goes back to v0"},
		{"idle, it is in the other slot", in(updater.Idle, wentBack), update, "refused", `slot b holds release v2 already, and it was confirmed: "evenkeel rollback" goes to it`},
		{"idle, it is in the other slot", in(updater.Idle, wentBack), to("v2"), "refused", "slot b holds release v2 already"},
		{"idle, it is in the other slot", in(updater.Idle, wentBack), rollback, "saved staged", "goes back to v2 in slot b"},
		{"idle, it is in the other slot, and a newer one", in(updater.Idle, wentBack, newer), update, "saved staging", "install release v3"},
		{"idle, it failed in the other slot", in(updater.Idle, wentBack, itFailed), update, "saved staging", "install release v2"},
		{"idle", in(updater.Idle), cancel, "refused", "nothing to cancel"},
		{"idle", in(updater.Idle), confirm, "answered", "slot a is confirmed already"},
		{"idle", in(updater.Idle), check, "answered", "release v2 (serial 30) can be installed"},
		{"idle, nothing blocked", in(updater.Idle), retry, "answered", "nothing is blocked"},
		{"idle, blocked", in(updater.Idle, blocked), retry, "saved idle", "allowed it again"},
		{"idle, another is blocked", in(updater.Idle, blocked), updater.Intent{Verb: updater.Retry, Version: "v7"}, "refused", "release v7 is not blocked; what is: v2"},
		{"idle, and nothing is blocked", in(updater.Idle), updater.Intent{Verb: updater.Retry, Version: "v7"}, "answered", "nothing is blocked"},
		{"idle, blocked by name", in(updater.Idle, blocked), updater.Intent{Verb: updater.Retry, Version: "v2"}, "saved idle", "allowed it again: release v2"},
		{"idle, expired", in(updater.Idle, expired), update, "answered", "release v2 is newer, but what the repository said cannot be relied upon any more: timestamp has expired"},
		{"idle, expired", in(updater.Idle, expired), to("v2"), "refused", "timestamp has expired"},
		{"idle, too many blocked", in(updater.Idle, blocked, upTo), update, "answered", "everything up to serial 40 is blocked here"},
		{"idle, too many blocked", in(updater.Idle, blocked, upTo), retry, "saved idle", "allowed it again: release v2, everything up to serial 40"},
		{"idle, one of too many", in(updater.Idle, upTo), updater.Intent{Verb: updater.Retry, Version: "v2"}, "refused", "what is: everything up to serial 40"},
		{"idle, a loader that is not trusted", in(updater.Idle, doubted), force(retry), "saved idle", "allowed it again"},

		{"staging", in(updater.Staging), update, "saved staging by operator", "release v2 goes on as the operator asked"},
		{"staged", in(updater.Staged), update, "saved staged by operator", "release v2 goes on"},
		{"staged, by name", in(updater.Staged), to("v2"), "saved staged by operator, pinned", "release v2 goes on"},
		{"staged, and a newer one", in(updater.Staged, newer), update, "saved closing superseded", "the operator asked for release v3"},
		{"staged, and a newer one, by name", in(updater.Staged, newer), to("v2"), "saved staged by operator, pinned", "release v2 goes on"},
		{"staged by name, and a newer one", in(updater.Staged, newer, pinned), update, "saved staged by operator, pinned", "release v2 goes on"},
		{"staged, another by name", in(updater.Staged, newer), to("v3"), "saved closing superseded", "the operator asked for release v3"},
		{"staged, one that cannot be", in(updater.Staged), to("v0"), "refused", "a signed downgrade"},
		{"staged, unknown", in(updater.Staged), to("v9"), "refused", `no release "v9"`},
		{"staged", in(updater.Staged), rollback, "refused", "slot b was overwritten with release v2: there is nothing in it to go back to"},
		{"staged", in(updater.Staged), confirm, "refused", "has not been tried yet"},
		{"staged", in(updater.Staged), check, "answered", "release v2 (serial 30) can be installed"},
		{"staged", in(updater.Staged), cancel, "saved closing cancelled", "cancelled by the operator"},
		{"staged, another is blocked", in(updater.Staged, blocked), retry, "saved staged by agent", "allowed it again"},
		{"going back", in(updater.Staged, goingBack), rollback, "saved staged by operator", "release v0 goes on"},
		{"going back", in(updater.Staged, goingBack), update, "saved closing superseded", "the operator asked for release v2"},
		{"going back, nothing newer", in(updater.Staged, goingBack, onlyOld), update, "answered", "is the newest there is"},
		{"armed, for the next reboot", in(updater.Armed, noReboot), update, "saved armed by operator", "release v2 goes on"},
		{"armed", in(updater.Armed), cancel, "saved closing cancelled", "cancelled by the operator"},

		{"on trial", in(updater.InTrial, onTrial), cancel, "saved reverting cancelled", "cancelled by the operator during the trial"},
		{"on trial", in(updater.InTrial, onTrial), rollback, "saved reverting cancelled", "cancelled by the operator during the trial"},
		{"on trial", in(updater.InTrial, onTrial), confirm, "probe", "is slot b well?"},
		{"on trial, well", in(updater.InTrial, probed(updater.Healthy)), confirm, "saved confirming by agent", "slot b is well, says the operator"},
		{"on trial, sick", in(updater.InTrial, probed(updater.Sick)), confirm, "refused, saved reverting unhealthy", "health check web failed"},
		{"on trial, sick, forced", in(updater.InTrial, probed(updater.Sick)), force(confirm), "saved confirming by agent", "says the operator"},
		{"on trial, another serial", in(updater.InTrial, says(11)), force(confirm), "refused, saved reverting unhealthy", "the image says that it is serial 11, and the release is 30"},
		{"on trial, no serial", in(updater.InTrial, says(0)), ask(updater.NoVerb), "saved reverting unhealthy", "the image says that it is serial 0"},
		{"back on trial, a serial that nobody knew", in(updater.InTrial, says(11), goingBack), ask(updater.NoVerb), "saved confirming by agent", "is well"},
		{"on trial", in(updater.InTrial, onTrial), update, "refused", "is on trial: wait for its verdict"},
		{"on trial", in(updater.InTrial, onTrial), retry, "refused", "a trial is under way"},
		{"on trial", in(updater.InTrial, onTrial), check, "refused", "a trial is under way"},
		{"being confirmed", in(updater.Confirming, onTrial), cancel, "refused", `run "evenkeel rollback" afterwards`},

		{"a sick fallback", in(updater.Idle, fellBack), update, "refused", `an operator says "evenkeel confirm --force"`},
		{"a sick fallback", in(updater.Idle, fellBack), confirm, "refused", "its health checks fail"},
		{"a sick fallback, forced", in(updater.Idle, fellBack), force(confirm), "confirm a", "fell back to slot a"},
		{"a lost record, not the default", in(updater.Lost, fellBack), update, "refused", "the record was lost"},
	} {
		t.Run(c.name+"/"+string(c.ask.Verb), func(t *testing.T) {
			c.v.Intent = c.ask
			if c.r.Phase == updater.Lost {
				c.r.Txn = nil
			}
			s := updater.Next(c.r, c.v)
			if got := outcomeOf(s); got != c.want || !strings.Contains(s.Why, c.why) {
				t.Errorf("%s: %s, want %s: %s", got, s.Why, c.want, c.why)
			}
		})
	}
}

// outcomeOf says what a step means to the operator who asked. An update that is closed for another answers later.
func outcomeOf(s updater.Step) string {
	switch {
	case s.Do == updater.DoAnswer && s.Refused:
		return "refused"
	case s.Do == updater.DoAnswer:
		return "answered"
	case s.Do != updater.DoSave:
		return nameOf(s)
	}
	text := "saved " + string(s.Record.Phase)
	if s.Refused {
		text = "refused, " + text
	}
	switch t := s.Record.Txn; {
	case t == nil || s.Record.Phase == updater.Staging && t.Attempts == 0 && t.ID == 3, t.Rollback && t.ID == 3:
	case t.Outcome != "":
		text += " " + string(t.Outcome)
	default:
		text += " by " + t.By
		if t.Pinned {
			text += ", pinned"
		}
	}
	return text
}

// TestModeStage: everything is installed by itself, and waits for an operator.
func TestModeStage(t *testing.T) {
	h := newHost(fixtures.Good)
	h.Config.ByHand = true
	h.powerOn()
	h.steps(t, updater.DoWait)
	if r := h.record(t); r.Phase != updater.Staged {
		t.Fatalf("it waits in phase %s", r.Phase)
	}
	if ans := h.say(t, updater.Intent{Verb: updater.Update, NoReboot: true}); ans.Refused {
		t.Fatalf("the answer is %+v", ans)
	}
	if s := h.steps(t, updater.DoWait); h.record(t).Phase != updater.Armed || !strings.Contains(s.Why, "is tried at the next reboot") {
		t.Fatalf("it waits in phase %s: %s", h.record(t).Phase, s.Why)
	}
	if ans := h.say(t, updater.Intent{Verb: updater.Update}); ans.Refused {
		t.Fatalf("the answer is %+v", ans)
	}
	if h.steps(t, updater.DoReboot); h.M.Mode != fixtures.Off {
		t.Fatal("it does not reboot")
	}
	h.powerOn()
	if h.steps(t, updater.DoWait); h.M.Rels[h.M.Run] != 1 {
		t.Errorf("release %d runs; %q", h.M.Rels[h.M.Run], h.events)
	}
}

// TestModeCheck: nothing is installed until an operator says so, and then everything goes on.
func TestModeCheck(t *testing.T) {
	h := newHost(fixtures.Good)
	h.Config.ByHand, h.settings.Auto = true, false
	h.powerOn()
	if s := h.steps(t, updater.DoWait); !strings.Contains(s.Why, `nobody asked for it: run "evenkeel update"`) {
		t.Fatal(s.Why)
	}
	if ans := h.say(t, updater.Intent{Verb: updater.Update}); ans.Refused {
		t.Fatalf("the answer is %+v", ans)
	}
	if h.steps(t, updater.DoWait); h.M.Rels[h.M.Run] != 1 {
		t.Errorf("release %d runs; %q", h.M.Rels[h.M.Run], h.events)
	}
}

// TestRollbackWithDamagedBootFiles: what does not verify is not tried, and is no fallback any more.
func TestRollbackWithDamagedBootFiles(t *testing.T) {
	h := newHost(fixtures.Good)
	h.steps(t, updater.DoWait)
	h.check = func() error { return errDisk }
	if ans := h.say(t, updater.Intent{Verb: updater.Rollback}); ans.Refused {
		t.Fatalf("the answer is %+v", ans)
	}
	for h.record(t).Phase != updater.Idle {
		_, _ = h.agent.Step(t.Context())
	}
	st, _ := h.State()
	if r := h.record(t); r.Last.Outcome != updater.GaveUp || r.Slots[updater.A].State != updater.Failed || st.EnabledA || h.M.Run != 1 {
		t.Errorf("%+v, %+v", r.Last, st)
	}
}
