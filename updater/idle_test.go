package updater_test

import (
	"strings"
	"testing"
	"time"

	"github.com/evenkeel-os/evenkeel/updater"
)

func panicked(s *situation) {
	s.v.Boot.Reset = updater.Reset{Cause: updater.CausePanic, Slot: updater.B, Detail: "oops"}
}

func well(s *situation) { s.v.Session.Health = updater.Healthy }

func late(s *situation) { s.v.Boot.Uptime = time.Hour }

func confirmedNever(s *situation) {
	s.r.Slots[updater.A] = updater.SlotRecord{State: updater.Verified}
}

func asked(open bool) func(*situation) {
	return func(s *situation) {
		s.v.Session.Asked, s.v.Session.Verdict = updater.Install, updater.Verdict{Open: open, Reason: "wave 3 is not open yet"}
	}
}

func owing(s *situation) { s.r.Outbox = []updater.Lease{{Txn: 1}, {Txn: 2}} }

func nameless(s *situation) { s.v.Loader = updater.BootState{} }

// TestIdle: what is done while nothing is under way, and nobody asks.
func TestIdle(t *testing.T) {
	for _, c := range []struct {
		name string
		situation
		want  string
		why   string
		event string
	}{
		{"a release is on offer", in(updater.Idle), "ask", "may release v2 be installed now?", ""},
		{"the gate is closed", in(updater.Idle, asked(false)), "wait", "wave 3 is not open yet", ""},
		{"the gate is open", in(updater.Idle, asked(true)), "SAVE(staging", "install release v2 into slot b", "staging"},
		{"nothing is automatic", in(updater.Idle, func(s *situation) { s.v.Settings.Auto = false }), "wait", "nobody asked for it", ""},
		{"it could not be written", in(updater.Idle, func(s *situation) { s.v.Session.GaveUp = 30 }), "wait", "tried again after the next check", ""},
		{"it is blocked", in(updater.Idle, blocked), "wait", `"evenkeel retry v2" allows it again`, ""},
		{"nothing is newer", in(updater.Idle, onlyOld), "wait", "release v1 (serial 20) is the newest there is", ""},
		{"it is time to look", in(updater.Idle, func(s *situation) { s.v.Session.PollDue = true }), "refresh", "look for releases", ""},

		{"a lease is owed", in(updater.Idle, owing), "leave", "give the lease back", ""},
		{"a lease was given back", in(updater.Idle, owing, func(s *situation) { s.v.Session.Left = true }), "SAVE(idle", "the lease was given back", ""},
		{"a lease cannot be given back now", in(updater.Idle, owing, func(s *situation) { s.v.Session.LeaveLate = true }), "ask", "may release v2", ""},

		{"a slot that failed may be chosen", in(updater.Idle, nothingConfirmed, func(s *situation) { s.v.Loader.EnabledB = true }), "disable b", "may be chosen", ""},
		{"a trial that nobody knows", in(updater.Idle, func(s *situation) { s.v.Loader.Trial.Slot = updater.B }), "disable b", "may be chosen", ""},
		{"the loader's variables are damaged", in(updater.Idle, nameless), "confirm a", "repair them", ""},

		{"fell back", in(updater.Idle, fellBack, func(s *situation) { s.v.Session.Health = updater.Unprobed }), "probe", "is it well?", ""},
		{"fell back, well, no evidence", in(updater.Idle, fellBack, well), "confirm a", "and it is well", "fell back"},
		{"fell back, well, a panic", in(updater.Idle, fellBack, well, panicked), "SAVE(idle", "slot b failed long after it was confirmed: its kernel panicked: oops", "fell back"},
		{"fell back, and that is saved", in(updater.Idle, fellBack, well, panicked, nothingConfirmed), "confirm a", "and it is well", ""},
		{"fell back, sick", in(updater.Idle, fellBack, late), "wait", "it stays up", ""},
		{"not the default, never confirmed", in(updater.Idle, fellBack, confirmedNever), "wait", "it reboots at the deadline", ""},
		{"not the default, never confirmed, late", in(updater.Idle, fellBack, confirmedNever, late), "reboot", "was never confirmed", ""},

		{"no record", in(updater.Lost), "SAVE(idle", "the record starts from what is seen", "rebuilt"},
		{"no record, not the default", in(updater.Lost, fellBack), "wait", "it may be an unconfirmed trial", ""},
		{"no record, no default", in(updater.Lost, nameless, confirmedNever), "probe", "neither record nor loader names a default slot", ""},
		{"no record, no default, well", in(updater.Lost, nameless, confirmedNever, well), "confirm a", "this one is well", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.r.Phase == updater.Lost {
				c.r.Txn = nil
			}
			s := updater.Next(c.r, c.v)
			if !strings.HasPrefix(nameOf(s), c.want) || !strings.Contains(s.Why, c.why) || s.Event != c.event {
				t.Errorf("%s: %s, event %q; want %s: %s, event %q", nameOf(s), s.Why, s.Event, c.want, c.why, c.event)
			}
		})
	}
}

// TestBlockedIsBounded: the lowest serial leaves a full list and stays blocked, with all below it, until an operator says
// retry; and none is listed twice.
func TestBlockedIsBounded(t *testing.T) {
	for _, upwards := range []bool{true, false} {
		s := in(updater.Closing)
		s.r.Txn.Outcome = updater.Unhealthy
		s.v.Offers.Releases = nil
		for i := range uint64(40) {
			serial := 100 + i
			if !upwards {
				serial = 139 - i
			}
			s.v.Offers.Releases = append(s.v.Offers.Releases, offer("v", serial))
			s.r.Txn.Release.Serial = serial
			for range 2 {
				step := updater.Next(s.r, s.v)
				if step.Do != updater.DoSave {
					t.Fatalf("%+v", step)
				}
				s.r.Blocked, s.r.BlockedUpTo = step.Record.Blocked, step.Record.BlockedUpTo
			}
		}
		if n := len(s.r.Blocked); n != 16 || s.r.BlockedUpTo != 123 {
			t.Errorf("%d are listed, and all up to %d: %+v", n, s.r.BlockedUpTo, s.r.Blocked)
		}
		if rel, ok := s.v.Offers.Newest(s.r, s.v.Boot.Running); ok {
			t.Errorf("serial %d may be tried again", rel.Serial)
		}
		s = situation{mustDecode(t, mustEncode(t, updater.Record{Phase: updater.Idle, Slots: s.r.Slots, Blocked: s.r.Blocked, BlockedUpTo: s.r.BlockedUpTo})), s.v}
		s.v.Intent.Verb = updater.Retry
		if step := updater.Next(s.r, s.v); step.Record == nil || len(step.Record.Blocked) > 0 || step.Record.BlockedUpTo > 0 {
			t.Errorf("retry leads to %+v", step)
		}
	}
}
