package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/evenkeel-os/evenkeel/internal/config"
	"github.com/evenkeel-os/evenkeel/internal/control"
	"github.com/evenkeel-os/evenkeel/internal/durable"
	"github.com/evenkeel-os/evenkeel/internal/host"
	"github.com/evenkeel-os/evenkeel/updater"
)

func (a *app) agentCommand() *cobra.Command {
	return &cobra.Command{
		Use: "agent", Short: "run the agent: keep this host up to date", Args: cobra.NoArgs,
		Long: `Runs the agent until it is stopped. It looks for releases, installs the newest that may be installed, waits until it may be
tried, reboots into the trial, and confirms it or goes back. systemctl reload (SIGHUP) reads the configuration again.`,
		RunE: func(c *cobra.Command, _ []string) error { return a.serve(c.Context()) },
	}
}

// serve runs agents, one after the other, until ctx ends: each SIGHUP with a right configuration ends one. What an agent
// knew is in the record, or is seen again.
func (a *app) serve(ctx context.Context) error {
	loaded, err := a.config()
	if err != nil {
		return err
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		next, err := a.serveOne(ctx, loaded, hup)
		if err != nil || next == nil {
			return err
		}
		loaded = *next
	}
}

// serveOne runs an agent with one configuration. It returns the next one, or nil when ctx ended.
func (a *app) serveOne(ctx context.Context, l config.Loaded, hup <-chan os.Signal) (*config.Loaded, error) {
	log := newLog(l.Config.Log, a.stderr, a.lookup)
	for _, w := range l.Warnings {
		log.Warn(w.String())
	}
	d, err := a.daemon(l.Config, log)
	if err != nil {
		return nil, err
	}
	defer d.close()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- d.run(ctx) }()
	for {
		select {
		case err := <-done:
			return nil, err
		case <-hup:
			_, _ = daemon.SdNotify(false, daemon.SdNotifyReloading)
			next, err := a.config()
			if err == nil {
				_, err = a.machine(next.Config, func(string) {}) // what it names must be there as well
			}
			if err != nil {
				log.Errorf("the configuration stays as it was: %v", err)
				_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
				continue
			}
			log.Info("reading the configuration again")
			stop()
			return &next, <-done
		}
	}
}

// serving is one running agent.
type serving struct {
	m     *machine
	agent *updater.Agent
	lock  *durable.FileLock
	feed  *control.Feed
	log   *logrus.Logger

	mu   sync.Mutex
	last string // what was logged last, so that a long wait is one line
}

func (a *app) daemon(c config.Config, log *logrus.Logger) (*serving, error) {
	m, err := a.machine(c, func(s string) { log.Warn(s) })
	if err != nil {
		return nil, err
	}
	d := &serving{m: m, feed: &control.Feed{}, log: log}
	if d.lock, err = m.lock(); err != nil {
		return nil, err
	}
	for _, begin := range []func() error{m.tidy, m.begin} {
		if err := begin(); err != nil {
			log.Warn(err.Error())
		}
	}
	d.agent = m.agent(true, d.onEvent)
	m.filler.OnProgress = throttle(a.now, func(p updater.Progress) { d.feed.Tell(control.Message{Progress: &p}) })
	return d, nil
}

// tidy removes what writers left unfinished when the power was cut. The caller holds the lock.
func (m *machine) tidy() error { return durable.Sweep(durable.OS{}, m.cfg.State.Dir) }

// begin notes that this boot runs, unless nothing may be kept.
func (m *machine) begin() error {
	if err := m.slots.MayKeepState(); err != nil {
		return err
	}
	return m.host.Begin()
}

func (d *serving) close() {
	if err := d.lock.Unlock(); err != nil {
		d.log.Warn(err.Error())
	}
}

// run serves commands and steps until ctx ends.
func (d *serving) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() {
		// Without its socket the agent does its work all the same; commands then say that they cannot reach it.
		if err := control.Serve(ctx, d.m.cfg.Host.RunDir, d, d.feed); err != nil {
			d.log.Error(err.Error())
		}
	})
	if w := d.m.cfg.Host.Watchdog; w != "" {
		wg.Go(func() { d.feedWatchdog(ctx, w) })
	}
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
	defer daemon.SdNotify(false, daemon.SdNotifyStopping) //nolint:errcheck // nobody listens, or somebody does
	err := d.agent.Run(ctx, pace(d.m.cfg.Update), d.onStep)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (d *serving) feedWatchdog(ctx context.Context, device string) {
	w := host.Watchdog{Device: device, Timeout: d.m.cfg.Host.WatchdogTimeout}
	if err := w.Feed(ctx); err != nil && ctx.Err() == nil {
		d.log.Errorf("nothing ends a hang of this machine: %v", err)
	}
}

// pace is how the agent waits.
func pace(u config.Update) updater.Pace {
	p := updater.Pace{Recheck: min(15*time.Second, u.Poll), RetryMin: time.Second, RetryMax: min(5*time.Minute, u.Poll)}
	if u.Mode != "off" {
		p.Poll = func() time.Duration {
			if u.Jitter <= 0 {
				return u.Poll
			}
			return u.Poll + rand.N(u.Jitter)
		}
	}
	return p
}

// onStep logs what is new. Waits repeat themselves.
func (d *serving) onStep(s updater.Step, err error) {
	d.feed.Tell(control.Message{Step: stepOf(s, err)})
	err = plainly(err)
	d.mu.Lock()
	defer d.mu.Unlock()
	line := string(s.Do) + s.Why
	if err != nil {
		line += err.Error()
	}
	if line == d.last {
		return
	}
	d.last = line
	e := d.log.WithField("do", string(s.Do))
	switch {
	case err != nil && s.Why != "":
		e.Warnf("%s: %v", s.Why, err)
	case err != nil:
		e.Warn(err.Error())
	case s.Event != "":
		e.Info(s.Event + ": " + s.Why)
	default:
		e.Info(s.Why)
	}
}

func (d *serving) onEvent(e updater.Event) {
	d.m.remember(func(s string) { d.log.Warn(s) })(e)
	d.feed.Tell(control.Message{Event: &e})
	for _, c := range e.Checks {
		if c.OK {
			continue
		}
		for l := range strings.Lines(c.Output) {
			d.log.WithField("check", c.Name).Warnf("%s: %s", c.Name, strings.TrimRight(l, "\n"))
		}
	}
}

// Submit implements control.Agent.
func (d *serving) Submit(in updater.Intent) <-chan updater.Answer {
	d.log.WithField("verb", string(in.Verb)).Info(strings.TrimSpace("the operator says " + string(in.Verb) + " " + in.Version))
	return d.agent.Submit(in)
}

// Status implements control.Agent.
func (d *serving) Status(ctx context.Context) (any, error) {
	st, err := d.agent.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot tell the state of this host: %w", err)
	}
	return d.m.status(st, true), nil
}

// throttle passes at most a few calls a second on, and always the first and the last of an image.
func throttle(now func() time.Time, on func(updater.Progress)) func(updater.Progress) {
	var last time.Time
	image := 0
	return func(p updater.Progress) {
		t := now()
		end := p.Bytes.Verified == p.Bytes.Total
		if p.Image != image || end || t.Sub(last) > 200*time.Millisecond || t.Before(last) {
			last, image = t, p.Image
			on(p)
		}
	}
}
