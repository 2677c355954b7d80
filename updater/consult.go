package updater

import (
	"context"
	"errors"
)

// consult asks others: the repository, the gate, the health checks.
func (a *Agent) consult(ctx context.Context, v View, s Step) (err error) {
	switch s.Do {
	case DoRefresh:
		return a.refresh(ctx)
	case DoAsk:
		return a.ask(ctx, v, s)
	case DoEnter:
		l, err := a.o.Gate.Enter(ctx, *a.rec.Txn)
		if err == nil {
			a.learn(func(x *Session) { x.Entered, x.Lease = true, l })
		}
		return err
	case DoLeave:
		err = a.o.Gate.Leave(ctx, a.rec.Outbox[0])
		a.learn(func(x *Session) { x.Left, x.LeaveLate = err == nil, err != nil })
	case DoProbe:
		return a.probe(ctx)
	case DoBaseline:
		err = a.o.Prober.Baseline(ctx)
		a.learn(func(x *Session) { x.Baselined = true }) // no baseline: the checks are absolute
	case DoVerify:
		return a.verify(ctx, s)
	}
	return err
}

// verify counts what fails as install does.
func (a *Agent) verify(ctx context.Context, s Step) error {
	err := a.interruptible(ctx, func(ctx context.Context) error { return a.o.Installer.Check(ctx, s.Slot, a.rec.Slots[s.Slot]) })
	if errors.Is(err, ErrCancelled) {
		return nil
	}
	a.learn(func(x *Session) {
		x.Checked = err == nil
		x.count(err)
	})
	return err
}

func (a *Agent) probe(ctx context.Context) error {
	var rep Report
	err := a.interruptible(ctx, func(ctx context.Context) (err error) {
		rep, err = a.o.Prober.Probe(ctx)
		return err
	})
	if errors.Is(err, ErrCancelled) {
		return nil
	}
	if err != nil {
		return err
	}
	a.learn(func(x *Session) {
		x.Report, x.Health = rep, Sick
		if rep.Healthy {
			x.Health = Healthy
		}
	})
	return nil
}

func (a *Agent) ask(ctx context.Context, v View, s Step) error {
	ask := Ask{Stage: s.Stage, By: byAgent}
	if a.rec.Txn != nil {
		ask.Release, ask.By = a.rec.Txn.Release, a.rec.Txn.By
	} else if rel, ok := v.Offers.Newest(a.rec, v.Boot.Running); ok {
		ask.Release = rel
	}
	verdict, err := a.o.Gate.Decide(ctx, ask)
	if err != nil {
		verdict = Verdict{Reason: "the gate could not be asked: " + err.Error()}
	}
	a.learn(func(x *Session) { x.Asked, x.Verdict = s.Stage, verdict })
	return err
}

// refresh never stops the machine: an unreachable repository leaves what was known in force.
func (a *Agent) refresh(ctx context.Context) error {
	err := a.o.Source.Refresh(ctx)
	rels, offersErr := a.o.Source.Offers(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.session.PollDue, a.session.Looked = false, true
	a.offers.take(rels, offersErr)
	if err == nil {
		err = offersErr
	}
	a.offers.Unread = ""
	if err != nil {
		a.offers.Unread = err.Error()
	}
	return err
}

// install counts what fails. Failures of the network are not counted: they are waited out.
func (a *Agent) install(ctx context.Context, s Step) error {
	err := a.interruptible(ctx, func(ctx context.Context) error { return a.o.Installer.Install(ctx, s.Slot, a.rec.Txn.Release) })
	if errors.Is(err, ErrCancelled) {
		return nil
	}
	a.learn(func(x *Session) {
		x.Installed = err == nil
		x.count(err)
	})
	return err
}

// count counts what failed for good.
func (x *Session) count(err error) {
	if err != nil && !Temporary(err) {
		x.Retries++
	}
}

// Temporary reports whether err says of itself that waiting may help, as errors of the network do.
func Temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

// interruptible runs what may take long. It returns ErrCancelled where an operator's intent ended it.
func (a *Agent) interruptible(ctx context.Context, run func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a.mu.Lock()
	a.cancel = cancel
	if a.interrupts() {
		cancel(ErrCancelled)
	}
	a.mu.Unlock()
	err := run(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cancel = nil
	if err != nil && errors.Is(context.Cause(ctx), ErrCancelled) {
		return ErrCancelled
	}
	return err
}
