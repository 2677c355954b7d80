package updater_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evenkeel-os/evenkeel/fixtures"
	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/updater"
)

// host is a machine with an agent, and hooks where a test wants to interfere.
type host struct {
	*fixtures.Devices
	agent    *updater.Agent
	settings updater.Settings
	options  func(*updater.Options)
	events   []string
	unpolled bool // an agent that starts is not told to look for releases

	install func(ctx context.Context) error // nil: the twin's
	probe   func(ctx context.Context) error
	refresh func() error
	save    func() error
	running func() (updater.Slot, error)
	check   func() error
	aside   []byte
}

func newHost(k fixtures.Kind) *host {
	c := fixtures.Config{Loader: fixtures.OurGRUB, Kind: k, Tells: true, Watchdog: true}
	m := fixtures.NewMachine(c)
	h := &host{
		Devices:  &fixtures.Devices{Config: c, M: &m, CutAfter: -1},
		settings: updater.Settings{Tries: 2, MaxAttempts: 5, Deadline: time.Minute, Auto: true},
	}
	h.powerOn()
	return h
}

// powerOn lets the machine boot until an agent runs, and starts a new one.
func (h *host) powerOn() {
	for h.M.Mode != fixtures.Up {
		if h.M.Mode == fixtures.Booting {
			r, _ := updater.DecodeRecord(h.Record, updater.Schema)
			h.M.Start(h.Config, r)
		} else {
			h.M.PowerOn(h.Config)
		}
	}
	o := h.Options(h.settings)
	o.Source, o.Installer, o.Prober, o.Store, o.Slots = source{h}, h, h, h, h
	o.OnEvent = func(e updater.Event) { h.events = append(h.events, e.Kind) }
	if h.options != nil {
		h.options(&o)
	}
	h.agent = updater.New(o)
	if !h.unpolled {
		h.agent.Poll()
	}
}

// source keeps the method name Offers free for the machine's.
type source struct{ *host }

func (s source) Refresh(context.Context) error {
	if s.refresh != nil {
		return s.refresh()
	}
	return nil
}

func (s source) Offers(context.Context) ([]release.Release, error) { return s.M.Offers().Releases, nil }

func (h *host) Running() (updater.Slot, error) {
	if h.running != nil {
		return h.running()
	}
	return h.Devices.Running()
}

func (h *host) Install(ctx context.Context, s updater.Slot, rel release.Release) error {
	if h.install != nil {
		if err := h.install(ctx); err != nil {
			return err
		}
	}
	return h.Devices.Install(ctx, s, rel)
}

func (h *host) Probe(ctx context.Context) (updater.Report, error) {
	if h.probe != nil {
		if err := h.probe(ctx); err != nil {
			return updater.Report{}, err
		}
	}
	return h.Devices.Probe(ctx)
}

func (h *host) Check(ctx context.Context, s updater.Slot, r updater.SlotRecord) error {
	if h.check != nil {
		return h.check()
	}
	return h.Devices.Check(ctx, s, r)
}

func (h *host) Save(b []byte) error {
	if h.save != nil {
		if err := h.save(); err != nil {
			return err
		}
	}
	return h.Devices.Save(b)
}

func (h *host) Aside(b []byte) error {
	h.aside = b
	return nil
}

// steps steps until do is what was done, reboots included, and fails the test where it is not reached.
func (h *host) steps(t *testing.T, do updater.Do) updater.Step {
	t.Helper()
	var done []string
	for range 100 {
		s, err := h.agent.Step(t.Context())
		done = append(done, nameOf(s))
		if err != nil {
			t.Fatalf("%s: %v", strings.Join(done, " > "), err)
		}
		if s.Do == do {
			return s
		}
		if h.M.Mode == fixtures.Off {
			h.powerOn()
		}
	}
	t.Fatalf("%s is not reached: %s", do, strings.Join(done, " > "))
	return updater.Step{}
}

func (h *host) record(t *testing.T) updater.Record {
	t.Helper()
	st, err := h.agent.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st.Record
}

// say submits an intent and steps until it is answered.
func (h *host) say(t *testing.T, in updater.Intent) updater.Answer {
	t.Helper()
	answer := h.agent.Submit(in)
	for range 100 {
		select {
		case ans := <-answer:
			return ans
		default:
		}
		_, _ = h.agent.Step(t.Context())
		if h.M.Mode == fixtures.Off {
			t.Fatalf("%s is not answered before the machine reboots", in.Verb)
		}
	}
	t.Fatalf("%s is not answered", in.Verb)
	return updater.Answer{}
}

var errDisk = errors.New("the disk is broken")

// network is an error that waiting may help.
type network struct{}

func (network) Error() string   { return "no route to host" }
func (network) Temporary() bool { return true }

func TestHistoryOfAnUpdate(t *testing.T) {
	for _, c := range []struct {
		kind fixtures.Kind
		want []string
	}{
		{fixtures.Good, []string{"rebuilt", "staging", "staged", "armed", "trial", "healthy", "closing", "confirmed"}},
		{fixtures.Sick, []string{"rebuilt", "staging", "staged", "armed", "trial", "reverting", "closing", "unhealthy"}},
		{fixtures.Dead, []string{"rebuilt", "staging", "staged", "armed", "closing", "never came up"}},
	} {
		h := newHost(c.kind)
		h.steps(t, updater.DoWait)
		if !slices.Equal(h.events, c.want) {
			t.Errorf("%s: %q, want %q", c.kind, h.events, c.want)
		}
		if len(h.Violations) > 0 {
			t.Errorf("%s: %q", c.kind, h.Violations)
		}
	}
}

func TestCancelEndsARunningInstall(t *testing.T) {
	h := newHost(fixtures.Good)
	var answer <-chan updater.Answer
	h.install = func(ctx context.Context) error {
		answer = h.agent.Submit(updater.Intent{Verb: updater.Cancel})
		<-ctx.Done()
		return context.Cause(ctx)
	}
	h.steps(t, updater.DoInstall)
	if s := h.steps(t, updater.DoSave); !s.Answers || s.Record.Txn.Outcome != updater.Cancelled {
		t.Errorf("the step after it is %+v", s)
	}
	if ans := <-answer; ans.Refused {
		t.Errorf("the answer is %+v", ans)
	}
}

// TestOperatorEndsRunningHealthChecks: a person need not wait for checks that take their time to fail.
func TestOperatorEndsRunningHealthChecks(t *testing.T) {
	for _, c := range []struct {
		in   updater.Intent
		want updater.Phase
	}{
		{updater.Intent{Verb: updater.Cancel}, updater.Reverting},
		{updater.Intent{Verb: updater.Rollback}, updater.Reverting},
		{updater.Intent{Verb: updater.Confirm, Force: true}, updater.Confirming},
	} {
		h := newHost(fixtures.Good)
		var answer <-chan updater.Answer
		h.probe = func(ctx context.Context) error {
			answer = h.agent.Submit(c.in)
			<-ctx.Done()
			return context.Cause(ctx)
		}
		h.steps(t, updater.DoProbe)
		if s := h.steps(t, updater.DoSave); !s.Answers || s.Record.Phase != c.want {
			t.Errorf("%s: the step after it is %+v", c.in.Verb, s)
		}
		if ans := <-answer; ans.Refused {
			t.Errorf("%s: the answer is %+v", c.in.Verb, ans)
		}
	}
}

// TestConfirmWaitsForHealthChecks: without force they are what it asks for.
func TestConfirmWaitsForHealthChecks(t *testing.T) {
	h := newHost(fixtures.Good)
	h.probe = func(ctx context.Context) error {
		h.agent.Submit(updater.Intent{Verb: updater.Confirm})
		return ctx.Err()
	}
	h.steps(t, updater.DoProbe)
	if s := h.steps(t, updater.DoSave); s.Record.Phase != updater.Confirming || !s.Answers {
		t.Errorf("the step after it is %+v", s)
	}
}

func TestUpdateToAnotherVersionEndsARunningInstall(t *testing.T) {
	h := newHost(fixtures.Good)
	var answer <-chan updater.Answer
	h.install = func(ctx context.Context) error {
		h.install, h.M.Two = nil, true
		answer = h.agent.Submit(updater.Intent{Verb: updater.Update, Version: "v2"})
		<-ctx.Done()
		return context.Cause(ctx)
	}
	h.steps(t, updater.DoWait)
	if ans := <-answer; ans.Refused || h.M.Rels[h.M.Run] != 2 {
		t.Errorf("the answer is %+v, release %d runs", ans, h.M.Rels[h.M.Run])
	}
	if !slices.Contains(h.events, "superseded") || slices.Contains(h.events[:6], "armed") {
		t.Errorf("the history is %q", h.events)
	}
}

func TestUpdateToTheSameVersionLetsARunningInstallBe(t *testing.T) {
	h := newHost(fixtures.Good)
	var answer <-chan updater.Answer
	h.install = func(ctx context.Context) error {
		answer = h.agent.Submit(updater.Intent{Verb: updater.Update, Version: "v1"})
		return ctx.Err()
	}
	h.steps(t, updater.DoInstall)
	h.steps(t, updater.DoTry)
	if ans := <-answer; ans.Refused || h.record(t).Txn.By != "operator" {
		t.Errorf("the answer is %+v", ans)
	}
}

func TestSecondIntentReplacesTheFirst(t *testing.T) {
	h := newHost(fixtures.Good)
	h.settings.Auto = false
	h.powerOn()
	first := h.agent.Submit(updater.Intent{Verb: updater.Update})
	if ans := h.say(t, updater.Intent{Verb: updater.CheckNow}); ans.Refused || !strings.Contains(ans.Message, "release v1 (serial 20) can be installed") {
		t.Errorf("the second is answered %+v", ans)
	}
	if ans := <-first; !ans.Refused || ans.Message != "another command came in between" {
		t.Errorf("the first is answered %+v", ans)
	}
}

// TestIntentDuringAStepIsForTheNext: what is saved for one command is no answer to a command that comes in meanwhile.
func TestIntentDuringAStepIsForTheNext(t *testing.T) {
	h := newHost(fixtures.Good)
	h.settings.Auto = false
	h.powerOn()
	h.steps(t, updater.DoWait)
	var cancel <-chan updater.Answer
	h.save = func() error {
		h.save = nil
		cancel = h.agent.Submit(updater.Intent{Verb: updater.Cancel})
		return nil
	}
	update := h.agent.Submit(updater.Intent{Verb: updater.Update})
	h.steps(t, updater.DoSave)
	if ans := <-update; !ans.Refused {
		t.Errorf("the first is answered %+v", ans)
	}
	select {
	case ans := <-cancel:
		t.Fatalf("cancel is answered %+v by the step of update", ans)
	default:
	}
	if s := h.steps(t, updater.DoSave); s.Record.Phase != updater.Closing {
		t.Errorf("cancel leads to %+v", s)
	}
	if ans := <-cancel; ans.Refused {
		t.Errorf("cancel is answered %+v", ans)
	}
}

func TestTemporaryErrorsAreWaitedOut(t *testing.T) {
	h := newHost(fixtures.Good)
	fails := 10
	h.install = func(context.Context) error {
		if fails--; fails >= 0 {
			return network{}
		}
		return nil
	}
	for fails > 0 {
		_, _ = h.agent.Step(t.Context())
	}
	if h.steps(t, updater.DoInstall); h.record(t).Phase != updater.Staging {
		t.Errorf("the phase is %s", h.record(t).Phase)
	}
}

func TestABrokenDiskIsGivenUpUntilTheNextPoll(t *testing.T) {
	h := newHost(fixtures.Good)
	installs := 0
	h.install = func(context.Context) error {
		installs++
		return errDisk
	}
	rest := func() (s updater.Step) {
		for s.Do != updater.DoWait {
			s, _ = h.agent.Step(t.Context())
		}
		return s
	}
	if s := rest(); installs != 3 || !strings.Contains(s.Why, "could not be written or armed") || len(h.record(t).Blocked) > 0 {
		t.Errorf("after %d installs: %+v", installs, s)
	}
	rest()
	if installs != 3 {
		t.Errorf("%d installs without a poll", installs)
	}
	h.agent.Poll()
	if rest(); installs != 6 {
		t.Errorf("%d installs after a poll", installs)
	}
}

// TestALoaderThatCannotArmIsGivenUp: the lease goes back, so that others get theirs, and a slot to go back to stays one.
func TestALoaderThatCannotArmIsGivenUp(t *testing.T) {
	for _, back := range []bool{false, true} {
		h := newHost(fixtures.Good)
		tries := 0
		if back {
			h.steps(t, updater.DoWait)
		}
		h.options = func(o *updater.Options) { o.Bootloader = unarmable{h.Devices, &tries} }
		h.powerOn()
		if back {
			h.say(t, updater.Intent{Verb: updater.Rollback})
		}
		s := updater.Step{}
		for range 100 {
			if s, _ = h.agent.Step(t.Context()); s.Do == updater.DoWait {
				break
			}
		}
		r, last := h.record(t), h.record(t).Last
		if tries != 3 || r.Phase != updater.Idle || h.M.Lease || len(r.Outbox) > 0 || last.Outcome != updater.GaveUp || len(r.Blocked) > 0 {
			t.Errorf("rollback %v: after %d tries in phase %s: %s; %+v, the lease is held: %v", back, tries, r.Phase, s.Why, last, h.M.Lease)
		}
		if st, _ := h.State(); back && (r.Slots[updater.A].State != updater.SlotConfirmed || !st.EnabledA) {
			t.Errorf("the slot to go back to is %+v, %+v", r.Slots[updater.A], st)
		}
	}
}

// unarmable is a boot loader that cannot write a boot entry.
type unarmable struct {
	*fixtures.Devices
	tries *int
}

func (u unarmable) Try(updater.Slot, release.BootSpec, int) (updater.Reboot, error) {
	*u.tries++
	return updater.Reboot{}, errDisk
}

func TestConfirmCountsOnlyWhenItReadsBack(t *testing.T) {
	h := newHost(fixtures.Good)
	h.options = func(o *updater.Options) { o.Bootloader = forgetful{h.Devices} }
	h.powerOn()
	var err error
	for range 40 {
		var s updater.Step
		if s, err = h.agent.Step(t.Context()); s.Do == updater.DoConfirm {
			break
		}
		if h.M.Mode == fixtures.Off {
			h.powerOn()
		}
	}
	if err == nil || !strings.Contains(err.Error(), `the default slot reads back as "a", not "b"`) || h.record(t).Phase != updater.Confirming {
		t.Errorf("%v, in phase %s", err, h.record(t).Phase)
	}
}

// forgetful is a boot loader whose medium loses what Confirm writes.
type forgetful struct{ *fixtures.Devices }

func (forgetful) Confirm(updater.Slot) error { return nil }

func TestWhatCannotBeSavedIsRefused(t *testing.T) {
	h := newHost(fixtures.Good)
	h.settings.Auto = false
	h.powerOn()
	h.steps(t, updater.DoWait)
	h.save = func() error { return errDisk }
	if ans := h.say(t, updater.Intent{Verb: updater.Update}); !ans.Refused || !strings.Contains(ans.Message, "cannot be saved: the disk is broken") {
		t.Errorf("the answer is %+v", ans)
	}
}

// TestWhatIsRefusedIsNotDone: a save that reports failure may have happened. A restart must not find it.
func TestWhatIsRefusedIsNotDone(t *testing.T) {
	h := newHost(fixtures.Good)
	h.steps(t, updater.DoWait)
	h.Fault = fixtures.FailsLate
	if ans := h.say(t, updater.Intent{Verb: updater.Rollback}); !ans.Refused {
		t.Fatalf("the answer is %+v", ans)
	}
	h.Fault = fixtures.NoFault
	h.steps(t, updater.DoWait)
	if r := mustDecode(t, h.Record); r.Phase != updater.Idle {
		t.Errorf("the record says %s", r.Phase)
	}
}

func TestWhatCannotBeSeenIsRefused(t *testing.T) {
	h := newHost(fixtures.Good)
	h.running = func() (updater.Slot, error) {
		return updater.NoSlot, errors.New("/ is slot a, the command line says b")
	}
	if ans := h.say(t, updater.Intent{Verb: updater.Update}); !ans.Refused || !strings.Contains(ans.Message, "the command line says b") {
		t.Errorf("the answer is %+v", ans)
	}
	if s, err := h.agent.Step(t.Context()); s.Do != updater.DoHalt || err == nil {
		t.Errorf("it does %+v, %v", s, err)
	}
}

func TestUnreachableRepository(t *testing.T) {
	h := newHost(fixtures.Good)
	h.settings.Auto = false
	h.powerOn()
	h.refresh = func() error { return network{} }
	if ans := h.say(t, updater.Intent{Verb: updater.CheckNow}); !strings.Contains(ans.Message, "release v1 (serial 20) can be installed") {
		t.Errorf("what was trusted before is not in force any more: %+v", ans)
	}
	h.options = func(o *updater.Options) { o.Source = nothing{source{h}} }
	h.powerOn()
	for _, verb := range []updater.Verb{updater.CheckNow, updater.Update} {
		if ans := h.say(t, updater.Intent{Verb: verb}); !strings.Contains(ans.Message, "the repository could not be read (no route to host") {
			t.Errorf("%s is answered %+v", verb, ans)
		}
	}
}

// TestExpiredOffers: what is shown beside an error is not installed, by an agent that runs as by one that starts.
func TestExpiredOffers(t *testing.T) {
	h := newHost(fixtures.Good)
	h.settings.Auto = false
	expired := error(nil)
	h.options = func(o *updater.Options) { o.Source = expiring{source{h}, &expired} }
	h.powerOn()
	if s := h.steps(t, updater.DoWait); !strings.Contains(s.Why, "release v1 is on offer") {
		t.Fatal(s.Why)
	}
	expired = errors.New("timestamp has expired")
	for range 2 {
		for _, in := range []updater.Intent{{Verb: updater.Update}, {Verb: updater.Update, Version: "v1"}, {Verb: updater.CheckNow}} {
			if ans := h.say(t, in); !strings.Contains(ans.Message, "timestamp has expired") || h.record(t).Phase != updater.Idle {
				t.Errorf("%+v is answered %+v", in, ans)
			}
		}
		if st, err := h.agent.Status(t.Context()); err != nil || len(st.Offers.Releases) != 1 {
			t.Errorf("shown are %+v, %v", st.Offers, err)
		}
		h.powerOn()
	}
	if expired = nil; h.say(t, updater.Intent{Verb: updater.Update}).Refused || h.record(t).Phase != updater.Staging {
		t.Error("what is fresh again is not installed")
	}
}

// expiring is a repository whose metadata expires.
type expiring struct {
	source
	err *error
}

func (s expiring) Offers(ctx context.Context) ([]release.Release, error) {
	rels, _ := s.source.Offers(ctx)
	return rels, *s.err
}

// nothing is a repository that was never reached.
type nothing struct{ source }

func (nothing) Offers(context.Context) ([]release.Release, error) { return nil, nil }

func TestRecordsThatCannotBeRead(t *testing.T) {
	h := newHost(fixtures.Good)
	h.Record = []byte("garbage")
	h.powerOn()
	if r := h.record(t); h.aside != nil || !strings.Contains(r.Rebuilt, "invalid character") {
		t.Errorf("Status writes %q aside, and says %+v", h.aside, r)
	}
	h.steps(t, updater.DoSave)
	if r := h.record(t); r.Phase != updater.Idle || !strings.Contains(r.Rebuilt, "invalid character") || string(h.aside) != "garbage" {
		t.Errorf("it is rebuilt as %+v, and %q was kept", r, h.aside)
	}
	h.Record = []byte(`{"schema":9,"min_reader":9,"phase":"idle"}`)
	h.powerOn()
	if s, err := h.agent.Step(t.Context()); s.Do != updater.DoHalt || !errors.Is(err, updater.ErrNewerRecord) || !strings.Contains(string(h.Record), "9") {
		t.Errorf("a newer record leads to %+v, %v", s, err)
	}
}

func TestDisarmOnlyWhenNothingIsOnTrial(t *testing.T) {
	h := newHost(fixtures.Good)
	disarmed := map[updater.Phase]int{}
	h.options = func(o *updater.Options) {
		o.Disarm = func() error {
			r, _ := updater.DecodeRecord(h.Record, updater.Schema)
			disarmed[r.Phase]++
			return nil
		}
	}
	h.powerOn()
	h.steps(t, updater.DoWait)
	if disarmed[updater.Armed]+disarmed[updater.InTrial] > 0 || disarmed[updater.Confirming]+disarmed[updater.Closing] != 1 {
		t.Errorf("the deadline unit was disarmed in %v", disarmed)
	}
}

func TestStatusWhileStepping(t *testing.T) {
	h := newHost(fixtures.Good)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	h.install = func(context.Context) error {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if st, err := h.agent.Status(context.Background()); err != nil || st.Record.Phase != updater.Staging {
						t.Errorf("%s, %v", st.Record.Phase, err)
						return
					}
				}
			}
		})
		return network{}
	}
	for range 20 {
		_, _ = h.agent.Step(t.Context())
	}
	close(stop)
	wg.Wait()
}

func TestStatusSaysWhatAPendingIntentLeadsTo(t *testing.T) {
	h := newHost(fixtures.Good)
	h.steps(t, updater.DoInstall)
	h.agent.Submit(updater.Intent{Verb: updater.Cancel})
	if st, err := h.agent.Status(t.Context()); err != nil || !strings.Contains(st.Next.Why, "cancelled by the operator") {
		t.Errorf("next is %+v, %v", st.Next, err)
	}
}
