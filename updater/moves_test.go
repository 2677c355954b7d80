package updater_test

import (
	"context"
	"fmt"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/updater"
)

// move is one arrow of the exploration.
type move struct {
	label string
	to    state
	wrong []string
}

// moves are all that can happen in a state: what does when nothing interferes (no label: it rests), and the rest.
type moves struct {
	calm   move
	others []move
}

func (m *moves) add(label string, to state, wrong ...string) {
	m.others = append(m.others, move{label, to, wrong})
}

func (e *explorer) moves(s state) (m moves) {
	switch s.M.Mode {
	case fixtures.Off:
		e.powerOn(s, &m)
	case fixtures.Booting:
		e.start(s, &m)
	case fixtures.Stuck:
		s.M.Reset(e.w.Config, updater.CausePower, -1)
		s.Op = true
		m.calm = move{label: "a person resets", to: s}
	case fixtures.Up:
		e.up(s, &m)
	}
	return m
}

func (e *explorer) powerOn(s state, m *moves) {
	t := s
	label, wrong := t.M.PowerOn(e.w.Config)
	m.calm = move{label: label, to: t}
	if wrong != "" && !s.Died {
		m.calm.wrong = []string{wrong}
	}
	if v := e.fellBack(s, t); v != "" {
		m.calm.wrong = append(m.calm.wrong, v)
	}
	for x := int8(0); s.Left.Menu > 0 && x < 2; x++ {
		t := s
		t.Left.Menu--
		t.Op = true
		if t.M.Pick(e.w.Config, x) {
			m.add("a person picks "+string("ab"[x])+" in the boot menu", t)
		}
	}
}

// fellBack: nothing went wrong so far, no update is under way, and yet another slot than the default boots, or none.
func (e *explorer) fellBack(s, t state) string {
	d := e.loader(s).Default
	switch {
	case s.Op || s.Died || s.Lost || s.Left.Cuts != e.w.Budget.Cuts || s.Left.Reboots == e.w.Budget.Reboots:
	case e.recs.recs[s.Rec].Phase != updater.Idle || d == updater.NoSlot || s.M.Images[slotIndex(d)].Bad():
	case t.M.Mode == fixtures.Stuck:
		return "an ordinary reboot ends in a rescue prompt"
	case t.M.Mode == fixtures.Booting && slotIndex(d) != int(t.M.Run):
		return "an ordinary reboot fell back from a good default"
	}
	return ""
}

func (e *explorer) loader(s state) updater.BootState {
	st, _ := (&fixtures.Devices{Config: e.w.Config, M: &s.M}).State()
	return st
}

func slotIndex(s updater.Slot) int {
	if s == updater.B {
		return 1
	}
	return 0
}

func slotName(i int8) updater.Slot { return []updater.Slot{updater.A, updater.B}[i] }

func (e *explorer) start(s state, m *moves) {
	t := s
	label := t.M.Start(e.w.Config, e.recs.recs[s.Rec])
	t.M.BootNo, t.Rec = 1, e.recs.age(s.Rec)
	t.Mem = t.Rec
	m.calm = move{label: label, to: t}
	if s.Left.Cuts > 0 {
		m.add("POWER CUT while booting", e.cut(s))
	}
}

func (e *explorer) cut(s state) state {
	s.Left.Cuts--
	s = e.off(s, updater.CausePower, -1)
	s.M.Boots = 0
	return s
}

// off ends the present boot: whatever the agent knew is gone.
func (e *explorer) off(s state, c updater.Cause, blame int8) state {
	s.M.Reset(e.w.Config, c, blame)
	return e.forget(s)
}

func (e *explorer) forget(s state) state {
	s.Session, s.Loaded, s.Mem, s.Intent, s.Quiet, s.M.SickSeen = session{}, false, s.Rec, 0, false, false
	return s
}

// up: the agent runs; or time passes, once it has nothing to do.
func (e *explorer) up(s state, m *moves) {
	if e.crashes(s, m) {
		return
	}
	if s.Quiet {
		e.timePasses(s, m)
	} else {
		e.agent(s, m)
	}
	if s.Session != (session{}) || s.Quiet {
		m.add("the agent restarts", e.forget(s))
	}
	if s.Left.Cuts > 0 {
		m.add("POWER CUT", e.cut(s))
	}
	e.events(s, m)
}

// crashes: the kernel of a crashy image panics at any moment after the agent started, and when the trial is under way at
// the latest.
func (e *explorer) crashes(s state, m *moves) bool {
	if s.M.Images[s.M.Run] != fixtures.Crashy {
		return false
	}
	panics := move{label: "panic", to: e.off(s, updater.CausePanic, s.M.Run)}
	if e.recs.recs[s.Rec].Phase == updater.InTrial || s.Quiet {
		m.calm = panics
		return true
	}
	m.others = append(m.others, panics)
	return false
}

// agent is the agent's next step, and every way in which its one effect can end.
func (e *explorer) agent(s state, m *moves) {
	r := e.step(s, how{cutAfter: -1})
	name := nameOf(r.step)
	m.calm = move{name, r.to, r.wrong}
	if r.step.Do == updater.DoProbe && s.M.Images[s.M.Run] == fixtures.Flaky && s.M.Run == 1 {
		m.others = append(m.others, m.calm)
		b := e.step(s, how{cutAfter: -1, probeBad: true})
		m.calm = move{name + " finds it sick", b.to, b.wrong}
	}
	loader := r.step.Do == updater.DoTry || r.step.Do == updater.DoDisable || r.step.Do == updater.DoConfirm
	for i := 0; s.Left.Cuts > 0 && i < r.writes; i++ {
		if i > 0 { // before the first write is now
			c := e.step(s, how{cutAfter: i})
			m.add(fmt.Sprintf("%s POWER CUT after write %d", name, i), c.to, c.wrong...)
		}
		if loader && e.w.Tears {
			c := e.step(s, how{cutAfter: i, tear: true})
			m.add(fmt.Sprintf("%s POWER CUT tears write %d", name, i), c.to, c.wrong...)
		}
	}
	if s.Left.Fails > 0 && fallible(r.step.Do) {
		s.Left.Fails--
		s.Op = true
		c := e.step(s, how{cutAfter: -1, fault: fixtures.FailsFirst})
		m.add(name+" fails", c.to, c.wrong...)
		if r.writes > 0 {
			c = e.step(s, how{cutAfter: -1, fault: fixtures.FailsLate})
			m.add(name+" happens and fails", c.to, c.wrong...)
		}
	}
}

func nameOf(s updater.Step) string {
	switch {
	case s.Record != nil:
		return fmt.Sprintf("SAVE(%s: %s)", s.Record.Phase, s.Why)
	case s.Slot != updater.NoSlot:
		return string(s.Do) + " " + string(s.Slot)
	}
	return string(s.Do)
}

func fallible(d updater.Do) bool {
	switch d {
	case updater.DoWait, updater.DoHalt, updater.DoAnswer, updater.DoBaseline, updater.DoReboot, updater.DoRefresh:
		return false
	}
	return true
}

// how one step ends.
type how struct {
	cutAfter int // negative: it is not cut
	tear     bool
	fault    fixtures.Fault
	probeBad bool
}

// result of one step of the agent.
type result struct {
	to     state
	step   updater.Step
	writes int
	wrong  []string
}

// step runs one real Agent.Step over the twin.
func (e *explorer) step(s state, h how) (r result) {
	t := s
	d := &fixtures.Devices{
		Config: e.w.Config, M: &t.M, Record: e.recs.raw[s.Rec], Read: e.recs.read,
		CutAfter: h.cutAfter, Tear: h.tear, Fault: h.fault, ProbeBad: h.probeBad,
	}
	o := d.Options(e.w.settings())
	o.Mutate(e.w.Mutant)
	a := updater.New(o)
	var in updater.Intent
	if s.Intent > 0 {
		in = e.w.Asks[s.Intent-1]
	}
	a.Resume(e.recs.recs[s.Mem], s.Loaded || s.Mem != 0, s.Session.unpack(), t.M.Offers(), in)
	step, err, cut := stepOrCut(a)
	t.Rec = e.recs.intern(d.Record)
	r = result{step: step, writes: d.Writes, wrong: d.Violations}
	if cut {
		r.to = e.cut(t)
		return r
	}
	_, loaded, ses, in := a.Now()
	t.Loaded, t.Session = loaded, pack(ses)
	if step.Do == updater.DoSave && err == nil {
		t.Mem = t.Rec
	}
	if in.Verb == updater.NoVerb {
		t.Intent = 0
	}
	switch {
	case t.M.Mode == fixtures.Off:
		t = e.forget(t)
	case step.Do == updater.DoWait || step.Do == updater.DoHalt, err != nil && h.fault == fixtures.NoFault && t == s:
		t.Quiet = true
	}
	r.to = t
	return r
}

func stepOrCut(a *updater.Agent) (s updater.Step, err error, cut bool) {
	defer func() {
		if p := recover(); p != nil {
			if _, cut = p.(fixtures.PowerCut); !cut {
				panic(p)
			}
		}
	}()
	s, err = a.Step(context.Background())
	return s, err, false
}

// timePasses: what a quiet agent, or the deadline unit, does about it later.
func (e *explorer) timePasses(s state, m *moves) {
	t := s
	t.Session.LeaveLate = false // as Run does when it wakes up
	if !e.w.ByHand {            // there the gate would say the same again
		t.Session.Asked = ""
	}
	txn := e.recs.recs[s.Rec].Txn
	switch {
	case s.M.News:
		t.M.News, t.M.Missed, t.Quiet = false, false, false
		m.calm = move{label: "a poll", to: t}
	case s.M.Shut:
		t.M.Shut, t.Quiet = false, false
		m.calm = move{label: "the gate opens", to: t}
	case t.Session != s.Session && !s.M.Full:
		t.Quiet = false
		m.calm = move{label: "a while later", to: t}
	case !s.M.Late && (e.loader(s).Default != slotName(s.M.Run) || txn != nil && slotIndex(txn.Slot) == int(s.M.Run)):
		t.M.Late, t.Quiet = true, false
		m.calm = move{label: "the deadline comes", to: t}
	case s.M.Late && updater.OnTrial(e.recs.recs[s.Rec], slotName(s.M.Run), e.loader(s)):
		m.calm = move{label: "the deadline unit reboots", to: e.off(s, updater.CauseDeadline, s.M.Run)}
	}
}

// events are what people, publishers and broken hardware do.
func (e *explorer) events(s state, m *moves) {
	do := func(may bool, label string, f func(t *state)) {
		if !may {
			return
		}
		t := s
		t.Quiet = false
		f(&t)
		m.add(label, t)
	}
	l := s.Left
	do(l.Publish > 0, "release 2 is published", func(t *state) { t.Left.Publish--; t.M.Two = true })
	do(l.Withdraw > 0, "release 1 is withdrawn", func(t *state) { t.Left.Withdraw--; t.Op, t.M.Gone[1], t.M.News = true, true, true })
	for i, in := range e.w.Asks {
		do(l.Asks > 0 && s.Intent == 0, fmt.Sprintf("%s %s", in.Verb, in.Version), func(t *state) {
			t.Left.Asks--
			t.Op, t.Intent = true, int8(i+1)
			t.M.Passed[t.M.Run] = t.M.Passed[t.M.Run] || in.Force // a person vouches for it
		})
	}
	settled := s.Session.Settled || !e.w.Loader.Caps().CountsDefault || e.w.Mutant != nil
	do(l.Reboots > 0 && settled, "ordinary reboot", func(t *state) {
		t.Left.Reboots--
		*t = e.off(*t, updater.CauseReboot, -1)
	})
	do(l.Late > 0 && !s.M.Late, "the deadline comes early", func(t *state) { t.Left.Late--; t.Op, t.M.Late = true, true })
	do(l.Full > 0, "the state partition fills up, or has room", func(t *state) { t.Left.Full--; t.Op, t.M.Full = true, !s.M.Full })
	do(l.Gate > 0, "the gate closes, or opens", func(t *state) { t.Left.Gate--; t.M.Shut = !s.M.Shut })
	do(l.Lose > 0, "the state partition is lost", func(t *state) {
		t.Left.Lose--
		*t = e.off(*t, updater.CausePower, -1)
		t.Op, t.Lost, t.Rec, t.Mem, t.M.Lease = true, true, 0, 0, false
	})
	do(l.Die > 0 && e.canDie(s), "the default slot dies", func(t *state) {
		t.Left.Die--
		t.Died = true
		t.M.Images[t.M.Run], t.M.Passed[t.M.Run] = fixtures.Dead, false
		*t = e.off(*t, updater.CausePanic, t.M.Run)
	})
}

// canDie: only where there is a good, confirmed slot to fall back to, and the loader falls back at all.
func (e *explorer) canDie(s state) bool {
	r, st, m := e.recs.recs[s.Rec], e.loader(s), s.M
	return e.w.Loader.Caps().CountsDefault && r.Phase == updater.Idle && slotIndex(st.Default) == int(m.Run) && m.Passed[0] && m.Passed[1] &&
		st.EnabledA && st.EnabledB && !m.Images[0].Bad() && !m.Images[1].Bad() &&
		r.Slots[updater.A].State == updater.SlotConfirmed && r.Slots[updater.B].State == updater.SlotConfirmed
}
