package updater

import (
	"context"
	"time"
)

// Pace is how an agent waits. Durations are lower bounds of nothing: an intent or a poll wakes it at once.
type Pace struct {
	Poll     func() time.Duration // until the next look for releases; called each time, so it can be jittered; nil: never
	Recheck  time.Duration        // how often a waiting agent looks again (gates, deadline); at least once a minute is usual
	RetryMin time.Duration        // after a failed step, doubling
	RetryMax time.Duration
}

// Run steps until ctx ends. Failures are retried with a growing pause, until what failed succeeds, something is saved, or the
// agent rests; they are reported through onStep, as every step is.
func (a *Agent) Run(ctx context.Context, p Pace, onStep func(Step, error)) error {
	poll := time.NewTimer(0)
	defer poll.Stop()
	poll.Stop()
	if p.Poll != nil { // the first look is at once, before anything is done about what was offered to an earlier run
		a.Poll()
		poll.Reset(p.Poll())
	}
	retry, failed := p.RetryMin, Do("")
	for ctx.Err() == nil {
		s, err := a.Step(ctx)
		onStep(s, err)
		pause := time.Duration(0)
		switch {
		case err != nil:
			pause, retry, failed = retry, min(2*retry, p.RetryMax), s.Do
		case s.Do == DoWait || s.Do == DoHalt || s.Do == DoReboot:
			pause, retry = p.Recheck, p.RetryMin
		case s.Do == DoSave || s.Do == failed: // what only leads up to the same failure again is no progress
			retry = p.RetryMin
		}
		if pause > 0 {
			a.sleep(ctx, pause, poll, p)
		}
	}
	return context.Cause(ctx)
}

// sleep ends after d, or when a poll is due, or when somebody rings.
func (a *Agent) sleep(ctx context.Context, d time.Duration, poll *time.Timer, p Pace) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-a.wake:
	case <-poll.C:
		a.Poll()
		poll.Reset(p.Poll())
		return
	case <-t.C:
	}
	a.learn(func(x *Session) { x.Asked, x.LeaveLate = "", false })
}

// Status is what a person or a program wants to know. It is a value: reading it takes no lock on the disk.
type Status struct {
	Record  Record    `json:"record"`
	Running Slot      `json:"running"`
	Release Running   `json:"release"`
	Loader  BootState `json:"loader"`
	Boot    Boot      `json:"boot"`
	Offers  Offers    `json:"offers"`
	Next    Step      `json:"next"`            // what the agent would do now
	Error   string    `json:"error,omitempty"` // of the last step
}

// Status observes and says what would be done next, the intent that waits included; nothing is changed. It may be called
// while Step runs.
func (a *Agent) Status(context.Context) (Status, error) {
	v, err := a.look()
	if err != nil {
		return Status{}, err
	}
	if err := a.load(); err != nil {
		return Status{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	v.Offers, v.Intent, v.Session, v.Settings, v.Now = a.offers, a.intent, a.session, a.o.Settings, a.o.Now()
	st := Status{Record: a.rec, Running: v.Running, Release: v.Boot.Running, Loader: v.Loader, Boot: v.Boot, Offers: v.Offers, Next: Next(a.rec, v)}
	if a.lastErr != nil {
		st.Error = a.lastErr.Error()
	}
	return st, nil
}
