package updater_test

import (
	"fmt"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/updater"
)

// judge says what is wrong with a state by itself. What is wrong with one effect is said by fixtures.Devices, and what is
// wrong with a boot by fixtures.Machine.
func (e *explorer) judge(s state) (wrong []string) {
	if s.M.Mode == fixtures.Broken || s.Died {
		return nil
	}
	r, m := e.recs.recs[s.Rec], s.M
	if st := e.loader(s); !m.Vars.Torn {
		switch d := st.Default; {
		case d == updater.NoSlot:
			wrong = append(wrong, "no default slot")
		case m.Images[slotIndex(d)].Bad():
			wrong = append(wrong, "a bad image is the default")
		}
	}
	for i := range m.Passed {
		if r.Slots[slotName(int8(i))].State == updater.SlotConfirmed && !m.Passed[i] {
			wrong = append(wrong, "a slot is called confirmed that never passed its health checks")
		}
	}
	if m.Lease && !s.Lost && len(r.Outbox) == 0 && (r.Txn == nil || r.Txn.Lease == nil) {
		wrong = append(wrong, "a lease is held that the record does not know")
	}
	if s.Quiet && s.Intent > 0 && !m.Full {
		wrong = append(wrong, "an operator is left without an answer")
	}
	if e.blockedGood(s, r) {
		wrong = append(wrong, "a good release is blocked")
	}
	return wrong
}

// blockedGood: a release that never did wrong is blocked, though there were fewer power cuts than attempts.
func (e *explorer) blockedGood(s state, r updater.Record) bool {
	if s.Op || s.Died || s.Lost || int(e.w.Budget.Cuts-s.Left.Cuts) >= e.w.settings().MaxAttempts {
		return false
	}
	for _, b := range r.Blocked {
		if b.Serial == fixtures.Serial(2) || b.Serial == fixtures.Serial(1) && e.w.Kind == fixtures.Good {
			return true
		}
	}
	return false
}

// settle follows every state to where it comes to rest when faults stop: it must, and in a good place.
func (e *explorer) settle() {
	verdicts := make([]string, len(e.list))
	boots := make([]int32, len(e.list)) // until it rests; 0: not known yet, so one is added
	onPath := make([]bool, len(e.list))
	for i := range e.list {
		var path []int32
		verdict, n := "", int32(1)
		for at := int32(i); ; at = e.calm[at] {
			if boots[at] > 0 {
				verdict, n = verdicts[at], boots[at]
				break
			}
			if onPath[at] {
				verdict = "it never settles"
				break
			}
			onPath[at] = true
			path = append(path, at)
			if e.calm[at] < 0 {
				verdict = e.final(e.list[at])
				break
			}
		}
		for j := len(path) - 1; j >= 0; j-- {
			p := path[j]
			if e.list[p].M.Mode == fixtures.Off {
				n++
			}
			verdicts[p], boots[p] = verdict, n
		}
		e.boots = max(e.boots, int(n)-1)
		if verdict != "" {
			e.report(verdict, int32(i), "== faults stop ==")
		}
	}
}

// final judges where a machine came to rest.
func (e *explorer) final(s state) string {
	r, m := e.recs.recs[s.Rec], s.M
	st := e.loader(s)
	switch {
	case m.Mode == fixtures.Broken:
		return "" // it was said why
	case m.Images[m.Run].Bad():
		return "it rests in a bad image"
	case m.Full: // nothing can be finished, and it stays where it is well
		return ""
	case slotIndex(st.Default) != int(m.Run):
		if s.Session.Health == int8(updater.Sick) && (s.Died || s.Op || !e.w.Loader.Caps().AlwaysBoots) {
			return ""
		}
		return "it rests on a slot that is not the default"
	case r.Phase == updater.Staged && (r.LoaderDoubt != "" || e.w.NoRisk && !e.w.Loader.Caps().SafeWhenFailing):
		return ""
	case r.Phase == updater.Staged && e.w.ByHand && r.Txn.By == "agent", r.Phase == updater.Armed && r.Txn.NoReboot:
		return "" // an operator is waited for
	case r.Phase != updater.Idle:
		return "it rests in phase " + string(r.Phase)
	case m.Lease && !s.Lost || len(r.Outbox) > 0:
		return "a lease is never left"
	}
	return e.finalSlots(s, r, st)
}

func (e *explorer) finalSlots(s state, r updater.Record, st updater.BootState) string {
	m := s.M
	may := m.Vars.MayChoose(e.w.Loader, e.w.Deaf)
	for i := range may {
		if m.Images[i].Bad() && !s.Died && (may[i] || st.Enabled(slotName(int8(i)))) {
			return "it rests with a bad slot that the firmware may choose"
		}
	}
	want := int8(1)
	if m.Two {
		want = 2
	}
	fair := !e.w.Idle && !s.Op && !s.Died && !s.Lost && r.LoaderDoubt == "" && int(e.w.Budget.Cuts-s.Left.Cuts) < e.w.settings().MaxAttempts
	if fair && (e.w.Kind == fixtures.Good || m.Two) && m.Rels[m.Run] != want {
		return fmt.Sprintf("release %d is good and not installed in the end", want)
	}
	return ""
}
