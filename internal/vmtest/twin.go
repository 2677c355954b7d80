package vmtest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/updater"
)

// Boot is what the firmware did once, as seen from outside: the slot whose kernel it started, and what its variables said
// then.
type Boot struct {
	Slot  updater.Slot // NoSlot: it could not load the slot that is on trial, and reset
	State updater.BootState
}

// String is one line of a trace.
func (b Boot) String() string {
	s := "starts " + string(b.Slot)
	if b.Slot == updater.NoSlot {
		s = "cannot load it"
	}
	s += ", default " + string(b.State.Default)
	if t := b.State.Trial; t.Slot != updater.NoSlot {
		s += fmt.Sprintf(", trial of %s with %d left", t.Slot, t.TriesLeft)
		if t.LoadError {
			s += ", load error"
		}
	}
	return s + fmt.Sprintf(", a %v, b %v", b.State.EnabledA, b.State.EnabledB)
}

// Twin plays a scenario on fixtures.Machine, with the real updater.Agent, and returns its boots.
func Twin(s Scenario) ([]Boot, error) {
	c := fixtures.Config{Loader: fixtures.OurGRUB, Tells: true, Watchdog: true}
	if len(s.Releases) > 1 {
		c.Kind = s.Releases[1].Kind
	}
	m := fixtures.NewMachine(c)
	t := &twin{config: c, m: &m, d: &fixtures.Devices{Config: c, M: &m, CutAfter: -1}}
	if !offered(s.Releases) {
		m.Gone[1] = true
	}
	if err := t.boot(); err != nil {
		return nil, err
	}
	for _, a := range s.Acts {
		if err := t.act(a); err != nil {
			return t.trace, fmt.Errorf("on the twin: %w", err)
		}
	}
	if len(t.d.Violations) > 0 {
		return t.trace, errors.New("on the twin: " + strings.Join(t.d.Violations, "; "))
	}
	return t.trace, nil
}

func offered(releases []Release) bool {
	return len(releases) > 1 && releases[1].Product+releases[1].Compatible+releases[1].Arch == ""
}

type twin struct {
	config fixtures.Config
	m      *fixtures.Machine
	d      *fixtures.Devices
	agent  *updater.Agent
	trace  []Boot
}

// boot powers the machine on, as often as it takes until the agent runs.
func (t *twin) boot() error {
	for range 20 {
		if _, wrong := t.m.PowerOn(t.config); wrong != "" {
			return errors.New(wrong)
		}
		if t.m.Mode == fixtures.Off {
			continue
		}
		b := Boot{Slot: slotOf(t.m.Run)}
		var err error
		if b.State, err = t.d.State(); err != nil {
			return err
		}
		if label := t.m.Start(t.config, t.record()); strings.HasPrefix(label, "not loadable") {
			b.Slot = updater.NoSlot
			if b.State, err = t.d.State(); err != nil {
				return err
			}
		}
		t.trace = append(t.trace, b)
		if t.m.Mode == fixtures.Up {
			t.agent = updater.New(t.d.Options(updater.Settings{Tries: tries, MaxAttempts: maxAttempts, Deadline: 1 << 40, Auto: true}))
			t.agent.Poll()
			return nil
		}
	}
	return errors.New("the agent never came up in 20 boots")
}

func slotOf(i int8) updater.Slot { return []updater.Slot{updater.A, updater.B}[i] }

func (t *twin) act(a Act) error {
	switch {
	case a.Until != "":
		return t.until(a.Until)
	case a.Cut != "":
		return t.cut(a.Cut)
	case a.Reboot:
		t.m.Reset(t.config, updater.CauseReboot, -1)
		return t.boot()
	case a.Ask != updater.NoVerb:
		t.agent.Submit(updater.Intent{Verb: a.Ask})
	case a.Offer != nil:
		t.m.Two = true
		t.agent.Poll()
	case a.Attack != "" && attacks()[a.Attack].reboot:
		t.d.Record = nil
		t.m.Reset(t.config, updater.CausePower, -1)
		return t.boot()
	}
	return nil
}

// record is what is saved; the zero Record where nothing is.
func (t *twin) record() updater.Record {
	r, err := updater.DecodeRecord(t.d.Record, updater.Schema)
	if err != nil {
		return updater.Record{}
	}
	return r
}

// step is one step of the agent, and the boots that follow from it.
func (t *twin) step() (s updater.Step, before updater.Record, err error) {
	before = t.record()
	s, err = t.agent.Step(context.Background())
	if t.m.Mode == fixtures.Off {
		return s, before, t.boot()
	}
	if r := s.Record; err == nil && r != nil && r.Phase == updater.InTrial && t.m.Images[t.m.Run] == fixtures.Crashy {
		t.m.Reset(t.config, updater.CausePanic, t.m.Run)
		return s, before, t.boot()
	}
	return s, before, err
}

func (t *twin) until(o updater.Outcome) error {
	for range 500 {
		s, before, err := t.step()
		if err != nil {
			return err
		}
		if r := s.Record; r != nil && before.Phase == updater.Closing && r.Phase == updater.Idle {
			if r.Last.Outcome != o {
				return fmt.Errorf("the update ended %q, not %q: %s", r.Last.Outcome, o, r.Last.Reason)
			}
			return nil
		}
	}
	return fmt.Errorf("no update ended in 500 steps")
}

// cut lets the machine come to a point, and cuts power.
func (t *twin) cut(p Point) error {
	for range 500 {
		if p == WhileWriting {
			t.d.CutAfter = 1 // between the first byte and the last
		}
		t.d.Writes = 0
		s, reached, err := t.cutStep(p)
		if err != nil {
			return err
		}
		if reached {
			t.d.CutAfter = -1
			t.m.Reset(t.config, updater.CausePower, -1)
			return t.boot()
		}
		if s.Do == updater.DoWait || s.Do == updater.DoHalt {
			return fmt.Errorf("it never came to %s: %s", p, s.Why)
		}
	}
	return fmt.Errorf("it never came to %s", p)
}

func (t *twin) cutStep(p Point) (s updater.Step, reached bool, err error) {
	defer func() {
		if x := recover(); x != nil {
			if _, ok := x.(fixtures.PowerCut); !ok {
				panic(x)
			}
			reached = true
		}
	}()
	s, _, err = t.step()
	r := s.Record
	return s, r != nil && (p == WhenArmed && r.Phase == updater.Armed || p == OnTrial && r.Phase == updater.InTrial), err
}
