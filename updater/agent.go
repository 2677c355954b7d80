package updater

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/evenkeel-os/evenkeel/release"
)

// Options are the devices that an Agent drives, and its knobs.
type Options struct {
	Bootloader Bootloader
	Slots      Slots
	Source     Source
	Installer  Installer
	Gate       Gate
	Prober     Prober
	Host       Host
	Store      Store
	This       release.Host
	Settings   Settings
	Now        func() time.Time
	OnEvent    func(Event)  // may be nil; called for everything that belongs into the history
	Disarm     func() error // may be nil; tells the deadline unit that the default slot runs, or the trial is over

	decide func(Record, View) Step // tests put mutants here; nil is Next
}

// Agent drives one host. Step, Run and Drive are for one goroutine at a time; Submit and Status are for any.
type Agent struct {
	o Options

	mu       sync.Mutex
	rec      Record
	loaded   bool
	unread   []byte // what the store holds and no agent could read, until it is kept aside
	session  Session
	offers   Offers
	intent   Intent
	answer   chan Answer
	seen     chan Answer             // of the intent that the present step knows of
	cancel   context.CancelCauseFunc // of the install that runs now
	lastErr  error
	wake     chan struct{}
	disarmed bool
}

// Answer is what became of an Intent.
type Answer struct {
	Refused bool   `json:"refused"`
	Message string `json:"message"`
}

// ErrCancelled is the cause by which an operator ends a running install.
var ErrCancelled = errors.New("cancelled by the operator")

// New returns an Agent. It does nothing until it is stepped.
func New(o Options) *Agent {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.OnEvent == nil {
		o.OnEvent = func(Event) {}
	}
	return &Agent{o: o, offers: Offers{This: o.This}, wake: make(chan struct{}, 1)}
}

// Submit hands an operator's intent to the agent and returns where the answer comes: exactly one, unless the machine
// reboots first. A second intent replaces one that was not answered yet. What cannot wait reaches what runs: Cancel ends a
// download within one segment, and health checks at once.
func (a *Agent) Submit(in Intent) <-chan Answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.answer != nil {
		a.answer <- Answer{Refused: true, Message: "another command came in between"}
	}
	a.intent, a.answer = in, make(chan Answer, 1)
	if in.Verb == Update || in.Verb == CheckNow {
		a.session.PollDue = true
		a.session.GaveUp = 0
	}
	if a.cancel != nil && a.interrupts() {
		a.cancel(ErrCancelled)
	}
	a.ring()
	return a.answer
}

// interrupts: the intent cannot wait until what runs now is done, and Next obeys it before it would run that again.
func (a *Agent) interrupts() bool {
	in := a.intent
	switch a.rec.Phase {
	case Staging, Staged:
		return in.Verb == Cancel || in.Verb == Update && in.Version != "" && in.Version != a.rec.Txn.Release.Version
	case InTrial:
		return in.Verb == Cancel || in.Verb == Rollback || in.Verb == Confirm && in.Force
	}
	return false
}

// Poll makes the agent look for releases at its next step, and ask its gate again.
func (a *Agent) Poll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.session.PollDue, a.session.GaveUp, a.session.LeaveLate, a.session.Asked = true, 0, false, ""
	a.ring()
}

func (a *Agent) ring() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Step observes, decides and does one effect. The Step it returns is what was done, or tried when err is not nil. Wait
// and Halt mean that there is nothing to do until an intent, a poll or a reboot.
func (a *Agent) Step(ctx context.Context) (Step, error) {
	v, err := a.observe()
	if err != nil {
		a.note(Step{Do: DoHalt, Why: err.Error()}, err)
		a.learn(func(*Session) { a.seen = a.answer })
		a.reply(Answer{Refused: true, Message: err.Error()})
		return Step{Do: DoHalt, Why: err.Error()}, err
	}
	s := a.next(v)
	err = a.do(ctx, v, s)
	a.note(s, err)
	if err != nil {
		return s, fmt.Errorf("cannot %s: %w", s.Do, err)
	}
	return s, nil
}

func (a *Agent) next(v View) Step {
	if a.o.decide != nil {
		return a.o.decide(a.rec, v)
	}
	return Next(a.rec, v)
}

// observe loads the record once, and looks at everything that may have changed.
func (a *Agent) observe() (View, error) {
	v, err := a.look()
	if err != nil {
		return View{}, err
	}
	if err := a.load(); err != nil {
		return View{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.keepAside(); err != nil {
		return View{}, err
	}
	a.seen = a.answer
	v.Offers, v.Intent, v.Session, v.Settings, v.Now = a.offers, a.intent, a.session, a.o.Settings, a.o.Now()
	if !a.disarmed && a.o.Disarm != nil && !OnTrial(a.rec, v.Running, v.Loader) {
		a.disarmed = a.o.Disarm() == nil
	}
	return v, nil
}

func (a *Agent) look() (v View, err error) {
	if v.Running, err = a.o.Slots.Running(); err != nil {
		return View{}, fmt.Errorf("cannot tell which slot runs: %w", err)
	}
	if v.Boot, err = a.o.Host.Boot(); err != nil {
		return View{}, fmt.Errorf("cannot tell which boot this is: %w", err)
	}
	if v.Loader, err = a.o.Bootloader.State(); err != nil {
		return View{}, fmt.Errorf("cannot read the boot loader's state: %w", err)
	}
	v.Caps = a.o.Bootloader.Caps()
	return v, nil
}

// load reads the record. Bytes that cannot be read are remembered and the record is rebuilt; a record that only a
// newer agent may touch stops everything.
func (a *Agent) load() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.loaded {
		return nil
	}
	b, err := a.o.Store.Load()
	if err != nil {
		return fmt.Errorf("cannot load the record: %w", err)
	}
	switch r, err := DecodeRecord(b, Schema); {
	case len(b) == 0:
		a.rec = Record{Rebuilt: "there was none: a new machine, or a lost state partition", Slots: map[Slot]SlotRecord{}}
	case errors.Is(err, ErrNewerRecord):
		return err
	case err != nil:
		a.rec, a.unread = Record{Rebuilt: err.Error(), Slots: map[Slot]SlotRecord{}}, b
	default:
		a.rec = r
	}
	// What was trusted before a restart still is, and it needs no network to say so.
	a.offers.take(a.o.Source.Offers(context.Background()))
	a.loaded = true
	return nil
}

// keepAside writes, and so is for Step alone: Status may be asked of a machine by whoever only wants to look.
func (a *Agent) keepAside() error {
	if a.unread == nil {
		return nil
	}
	if err := a.o.Store.Aside(a.unread); err != nil {
		return fmt.Errorf("cannot keep the unreadable record aside: %w", err)
	}
	a.unread = nil
	return nil
}

// do carries out one step. What it learns goes into the session.
func (a *Agent) do(ctx context.Context, v View, s Step) error {
	switch s.Do {
	case DoSave:
		return a.save(v, s)
	case DoInstall:
		return a.install(ctx, s)
	case DoAnswer:
		a.reply(Answer{Refused: s.Refused, Message: s.Why})
		return nil
	case DoWait, DoHalt:
		return nil
	case DoRefresh, DoAsk, DoEnter, DoLeave, DoProbe, DoBaseline, DoVerify:
		return a.consult(ctx, v, s)
	case DoReboot:
		return a.reboot(ctx)
	}
	err := a.write(s)
	if err == nil {
		a.emit(v, a.rec, s)
	}
	return err
}

// write is the four verbs and Settle: everything that changes what the firmware does.
func (a *Agent) write(s Step) error {
	b := a.o.Bootloader
	switch s.Do {
	case DoSettle:
		err := b.Settle()
		a.learn(func(x *Session) { x.Settled = true }) // a failing Settle must not keep the agent from its work
		return err
	case DoDisable:
		err := b.Disable(s.Slot)
		a.learn(func(x *Session) { x.Tried, x.Retired = false, err == nil }) // even if it failed: it may have happened
		return err
	case DoTry:
		reboot, err := b.Try(s.Slot, a.rec.Txn.Release.Entry(), a.rec.Txn.Tries)
		a.learn(func(x *Session) {
			if err == nil {
				x.Tried, x.Reboot = true, reboot
			}
			x.count(err)
		})
		return err
	case DoConfirm:
		if err := b.Confirm(s.Slot); err != nil {
			return err
		}
		return a.readBack(s.Slot)
	}
	return fmt.Errorf("no such step as %q", s.Do)
}

// readBack: Confirm counts only when the firmware's variables say so.
func (a *Agent) readBack(s Slot) error {
	st, err := a.o.Bootloader.State()
	if err != nil {
		return fmt.Errorf("cannot read back: %w", err)
	}
	if st.Default != s {
		return fmt.Errorf("the default slot reads back as %q, not %q", st.Default, s)
	}
	a.learn(func(x *Session) { x.Confirmed = true })
	return nil
}

// save makes s.Record the record. A phase that changed starts with a new session, for what was done belongs to the old.
func (a *Agent) save(v View, s Step) error {
	b, err := s.Record.Encode()
	if err == nil {
		err = a.o.Store.Save(b)
	}
	if err != nil {
		a.learn(func(x *Session) { x.Unsaved = true })
		if s.Answers {
			a.reply(Answer{Refused: true, Message: "nothing was done, for it cannot be saved: " + err.Error()})
		}
		return err
	}
	before := a.rec
	a.keep(s)
	if s.Answers {
		a.reply(Answer{Refused: s.Refused, Message: s.Why})
	}
	a.emit(v, before, s)
	return nil
}

// keep takes over what was saved.
func (a *Agent) keep(s Step) {
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.session
	if s.Record.Phase != a.rec.Phase {
		a.session = Session{
			Settled: old.Settled, PollDue: old.PollDue, GaveUp: old.GaveUp, LeaveLate: old.LeaveLate, Reboot: old.Reboot,
		}
	}
	a.session.Unsaved, a.session.Left = false, false
	if l := s.Record.Last; a.rec.Phase == Closing && s.Record.Phase == Idle && l != nil && l.Outcome == GaveUp {
		a.session.GaveUp = l.Serial
	}
	if s.Answers {
		a.session.Asked = "" // the gate may think otherwise of an operator
	}
	a.rec = *s.Record
}

// emit reports a step that means something to people.
func (a *Agent) emit(v View, before Record, s Step) {
	if s.Event == "" {
		return
	}
	e := Event{Time: a.o.Now(), Boot: v.Boot.ID, Kind: s.Event, Message: s.Why, Slot: v.Running}
	t := before.Txn
	if s.Record != nil && s.Record.Txn != nil {
		t = s.Record.Txn
	}
	if t != nil {
		e.Txn, e.Slot, e.Version, e.Serial = t.ID, t.Slot, t.Release.Version, t.Release.Serial
		e.By = t.By
		if s.Record != nil && s.Record.Phase == Reverting { // once is enough
			e.Checks = t.Checks
		}
	}
	a.o.OnEvent(e)
}

// reboot uses what Try said; a restart forgets it, and an ordinary reboot follows, which on loaders that need more is
// an attempt that did not start.
func (a *Agent) reboot(ctx context.Context) error {
	a.mu.Lock()
	r := a.session.Reboot
	a.mu.Unlock()
	return a.o.Host.Reboot(ctx, r)
}

func (a *Agent) learn(f func(*Session)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f(&a.session)
}

// reply answers the intent that the present step was decided from. One that came in since then is for the next step.
func (a *Agent) reply(ans Answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.answer != a.seen {
		return
	}
	if a.answer != nil {
		a.answer <- ans
	}
	a.intent, a.answer, a.seen = Intent{}, nil, nil
}

func (a *Agent) note(s Step, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lastErr = err
	a.session.Failed = ""
	if err != nil {
		a.session.Failed = s.Do
	}
}
